"""Reading household text as an agent could: the task's sentence, the places, what was seen where.

Nothing here knows what a tool is for or where things are kept; all of it comes from the environment's own words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from stages.core.records import Episode

EVERYDAY = frozenset({"go", "take", "put", "move", "examine", "look", "inventory", "help", "open", "close"})
"""Verbs of looking around and carrying; every other verb does something to a thing."""

_GOALS = (
    r"(?:look at|examine) (?:the |a )?(?P<thing>\w+) (?:under|with) (?:the |a )?(?P<tool>\w+)",
    r"(?:put|find) (?P<two>two) (?P<thing>\w+) (?:in|on|and put them (?:in|on)) (?P<place>\w+)",
    r"put (?:a|some) (?P<word>\w+) (?P<thing>\w+) (?:in|on) (?P<place>\w+)",
    r"(?P<word>\w+) (?:some|a) (?P<thing>\w+) and put it (?:in|on) (?P<place>\w+)",
    r"put (?:a|some) (?P<thing>\w+) (?:in|on) (?P<place>\w+)",
)
_NAME = re.compile(r"\b[a-z]+ \d+\b")


@dataclass(frozen=True)
class Goal:
    """What a task's sentence asks: `word` is its verb or adjective ("heat", "hot"), `tool` what a thing is to be held
    under."""

    thing: str
    place: str | None
    word: str | None
    tool: str | None
    two: bool

    @property
    def asks_step(self) -> bool:
        """Carrying alone does not reach this goal."""
        return self.word is not None or self.tool is not None

    def names(self, verb: str) -> bool:
        """The goal's own word is this verb, or a form of it ("cleaned")."""
        return self.word is not None and (self.word.startswith(verb) or verb.startswith(self.word))


def read_goal(sentence: str) -> Goal | None:
    """The goal in a task's sentence; None for a sentence of unknown form."""
    text = sentence.strip().rstrip(".").lower()
    found = next((m for pattern in _GOALS if (m := re.fullmatch(pattern, text))), None)
    if found is None:
        return None
    parts = found.groupdict()
    return Goal(parts["thing"], parts.get("place"), parts.get("word"), parts.get("tool"), bool(parts.get("two")))


def kind(name: str) -> str:
    """Class of a thing or place: its name without the number."""
    return re.sub(r" \d+$", "", name)


def names_in(text: str) -> list[str]:
    """Numbered things and places that a text names, each once, in its order."""
    return list(dict.fromkeys(_NAME.findall(text)))


def verb_of(action: str) -> str:
    """First word of a command."""
    return action.partition(" ")[0]


def is_step(action: str, thing: str, tool: str | None) -> bool:
    """A command that does something to a thing (a class or a name), or with the thing the goal names as its tool."""
    verb, _, rest = action.partition(" ")
    if verb in EVERYDAY:
        return False
    return f" {rest} ".startswith(f" {thing} ") or (tool is not None and kind(rest) == tool)


def sweep(places: Iterable[str]) -> list[str]:
    """Places in the order of a tour that sees one of each class before the second of any; numbers count up."""

    def order(name: str) -> tuple[int, str]:
        return int(name.rsplit(" ", 1)[1]), kind(name)

    seen: Counter[str] = Counter()
    rounds = []
    for name in sorted(places, key=order):
        rounds.append((seen[kind(name)], name))
        seen[kind(name)] += 1
    return [name for _, name in sorted(rounds, key=lambda r: r[0])]


@dataclass
class Notes:
    """What a careful reader of the text would have written down: fed with every action that was carried out."""

    at: str | None = None
    visits: Counter[str] = field(default_factory=Counter)
    looked: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    home: dict[str, str] = field(default_factory=dict)

    def note(self, action: str, text: str) -> None:
        """Take in one action that the environment did not refuse, and its observation."""
        verb, _, rest = action.partition(" ")
        if verb == "go":
            self.at = rest.removeprefix("to ")
            self.visits[self.at] += 1
        if self.at is None or verb not in ("go", "open"):
            return
        if "is closed" in text:
            self.closed.add(self.at)
            return
        self.closed.discard(self.at)
        self.looked.add(self.at)
        for name in names_in(text):
            if name != self.at:
                self.home.setdefault(name, self.at)  # where it was first: an agent may carry it elsewhere later

    def places_of(self, wanted: str) -> list[str]:
        """Places where something of this class was first seen."""
        return list(dict.fromkeys(place for name, place in self.home.items() if kind(name) == wanted))


def notes_of(episode: Episode) -> Notes:
    """Everything an episode's accepted actions showed."""
    notes = Notes()
    for turn in episode.turns:
        if turn.valid:
            notes.note(turn.action, turn.observation)
    return notes


def done(episode: Episode, verbs: Collection[str]) -> list[str]:
    """The episode's accepted actions with one of these verbs."""
    return [turn.action for turn in episode.turns if turn.valid and verb_of(turn.action) in verbs]


def offers(episode: Episode) -> Sequence[str]:
    """Every action that was offered at some time, each once, in the order of first offer."""
    return list(dict.fromkeys(action for turn in episode.turns for action in turn.admissible))
