"""A demonstrator that sees only what an agent sees: the opening text and each observation.

It lists the places where the thing may be, searches them in that order, opens what is closed, and does what the task's
sentence asks. Its thoughts say just this, in words that can be copied from the text at hand: a small model learns to
copy before it learns to plan. It knows which places can hold which class of things (ALFWorld's own table, the common
sense of its rooms), and never where a thing is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from alfworld.gen import constants

TOOLS: Mapping[str, str] = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}
"""The class of receptacle with which ALFWorld carries out each verb."""

_HOLDS = {
    place.lower(): {thing.lower() for thing in things} for place, things in constants.VAL_RECEPTACLE_OBJECTS.items()
}
_LAMP_STANDS = ("desk", "sidetable", "dresser", "coffeetable", "diningtable", "shelf")
# Which places are worth a look first: open surfaces, then furniture, then the many cabinets and drawers.
_ORDER = [
    "countertop",
    "diningtable",
    "desk",
    "towelholder",
    "handtowelholder",
    "sidetable",
    "coffeetable",
    "dresser",
    "toiletpaperhanger",
    "bed",
    "fridge",
    "sofa",
    "armchair",
    "shelf",
    "stoveburner",
    "sinkbasin",
    "bathtubbasin",
    "coffeemachine",
    "toaster",
    "cart",
    "ottoman",
    "toilet",
    "laundryhamper",
    "microwave",
    "safe",
    "cabinet",
    "drawer",
    "garbagecan",
]
_GOALS = (
    r"(?:look at|examine) (?:the )?(?P<thing>\w+) (?:under|with) the (?P<lamp>\w+)",
    r"(?:put|find) (?P<two>two) (?P<thing>\w+) (?:in|and put them in) (?P<place>\w+)",
    r"put a (?P<state>\w+) (?P<thing>\w+) in (?P<place>\w+)",
    r"(?P<verb>\w+) some (?P<thing>\w+) and put it in (?P<place>\w+)",
    r"put (?:a|some) (?P<thing>\w+) (?:in|on) (?P<place>\w+)",
)
_LIST = re.compile(r"you see (.*?)\.(?:\s|$)", re.S)


class Lost(RuntimeError):
    """The explorer has searched every place, or met text that it can't read."""


def listed(text: str) -> list[str]:
    """The things an observation lists ("you see a mug 1, and a pan 2." -> ["mug 1", "pan 2"])."""
    found = _LIST.search(text)
    if not found:
        return []
    return [item.removeprefix("a ") for item in re.split(r",? and |, ", found[1]) if item.startswith("a ")]


def kind(name: str) -> str:
    """Class of a thing or place: its name without the number."""
    return name.rsplit(" ", 1)[0]


def _number(name: str) -> int:
    return int(name.rsplit(" ", 1)[1])


class Explorer:
    """Plays one task: call `decide` for a thought and an action, then `observe` with what came of it.

    `tools` maps a verb to the class of its place, `states` an adjective of the goal to its verb ("hot" -> "heat"); a word that
    `states` lacks is taken for the verb itself. Raises `Lost` when there is nothing more to try.
    """

    def __init__(self, opening: str, tools: Mapping[str, str] = TOOLS, states: Mapping[str, str] | None = None) -> None:
        room, _, sentence = opening.partition("Your task is to: ")
        goal = next((m for p in _GOALS if (m := re.fullmatch(p, sentence.strip().rstrip(".")))), None)
        if goal is None:
            raise Lost(f"can't read the task in {sentence!r}")
        self.goal = goal[0]
        parts = goal.groupdict()
        word = parts.get("verb") or parts.get("state")
        self.verb = (states or {"hot": "heat"}).get(word, word) if word else None
        self.thing: str = parts["thing"]
        self.place: str | None = parts.get("place")
        self.lamp: str | None = parts.get("lamp")
        self.needed = 2 if parts.get("two") else 1
        self.tools = tools
        self.places = listed(room)
        self.at: str | None = None
        self.hand: str | None = None
        self.treated = False
        self.contents: dict[str, list[str]] = {}
        self.closed: set[str] = set()
        self.placed: list[str] = []
        self.refused = False
        self.noted: set[str] = set()
        self._route_for: tuple[str, int] | None = None

    @property
    def state(self) -> dict[str, str]:
        """What it knows of itself before it acts."""
        return {"Goal": self.goal, "Location": self.at or "middle of the room", "Inventory": self.hand or "nothing"}

    def observe(self, action: str, text: str) -> None:
        """Take in what an action led to."""
        self.refused = text.startswith("Nothing happens")
        if self.refused:
            return
        verb, _, rest = action.partition(" ")
        if verb == "go":
            self.at = rest.removeprefix("to ")
        assert self.at is not None
        if verb in ("go", "open"):
            if "is closed" in text:
                self.closed.add(self.at)
            else:
                self.closed.discard(self.at)
                self.contents[self.at] = listed(text)
        elif verb == "take":
            self.hand = rest.split(" from ")[0]
            self.contents[self.at].remove(self.hand)
        elif verb == "move":
            assert self.hand is not None
            self.placed.append(self.hand)
            self.contents.setdefault(self.at, []).append(self.hand)
            self.hand = None
        elif verb == self.verb:
            self.treated = True

    def decide(self) -> tuple[str, str]:
        """The next thought and action. Raises `Lost` when every place has been searched."""
        thought, action = self._next()
        thought = self._note() + thought
        return (f"Nothing happened. {thought}" if self.refused else thought), action

    def _note(self) -> str:
        """What is seen here for the first time and needed later: said once, to be copied from when its turn comes."""
        if self.at is None or self.at in self.noted:
            return ""
        here = self.contents.get(self.at, [])
        later = [item for item in here if kind(item) == self.lamp]
        if self.needed == 2 and not self.placed and kind(self.at) != self.place:
            later += [item for item in here if kind(item) == self.thing][1:]
        if not later or (self.lamp and self.hand):
            return ""
        self.noted.add(self.at)
        return f"{', '.join(later)} is at {self.at}. "

    def _next(self) -> tuple[str, str]:
        if self.hand is None:
            return self._fetch()
        if self.lamp:
            return self._light(self.hand, self.lamp)
        if self.verb and not self.treated:
            return self._treat(self.hand, self.verb)
        return self._deliver(self.hand)

    def _known(self, wanted: str) -> tuple[str, str] | None:
        """A place and a thing of the wanted class seen there, the place at hand first."""
        hits = [
            (place, item)
            for place, items in self.contents.items()
            for item in items
            if kind(item) == wanted and item not in self.placed
        ]
        return min(hits, key=lambda hit: hit[0] != self.at, default=None)

    def _fetch(self) -> tuple[str, str]:
        hit = self._known(self.thing)
        if hit is None:
            return self._search(self.thing, "Now I need another" if self.placed else "I need a")
        place, item = hit
        if place == self.at:
            return f"I see {item}. I take it.", f"take {item} from {place}"
        return f"I saw {item} at {place}. I go there.", f"go to {place}"

    def _light(self, hand: str, lamp: str) -> tuple[str, str]:
        hit = self._known(lamp)
        if hit is None:
            return self._search(lamp, f"I have {hand}. I need a")
        place, item = hit
        if place == self.at:
            return f"I have {hand} and see {item}. I turn it on.", f"use {item}"
        return f"I have {hand}. I saw {item} at {place}. I go there.", f"go to {place}"

    def _treat(self, hand: str, verb: str) -> tuple[str, str]:
        place = self._first(self.tools[verb])
        if self.at != place:
            return f"I have {hand}. First I {verb} it at {place}.", f"go to {place}"
        return f"I am at {place}. I {verb} {hand}.", f"{verb} {hand} with {place}"

    def _deliver(self, hand: str) -> tuple[str, str]:
        assert self.place is not None
        place = self._first(self.place)
        if self.at != place:
            return f"I have {hand}. Now I bring it to {place}.", f"go to {place}"
        if place in self.closed:
            return f"The {place} is closed. I open it.", f"open {place}"
        return f"I am at {place}. I put {hand} there.", f"move {hand} to {place}"

    def _first(self, wanted: str) -> str:
        places = sorted((p for p in self.places if kind(p) == wanted), key=_number)
        if not places:
            raise Lost(f"there is no {wanted} in the room")
        return places[0]

    def _search(self, wanted: str, need: str) -> tuple[str, str]:
        if self.at in self.closed:
            return f"The {self.at} is closed. I open it.", f"open {self.at}"
        route = self._route(wanted)
        if self._route_for != (wanted, len(self.placed)):
            self._route_for = (wanted, len(self.placed))
            return f"{need} {wanted}. Places: {', '.join(route)}. First {route[0]}.", f"go to {route[0]}"
        return f"No {wanted} here. Next: {route[0]}.", f"go to {route[0]}"

    def _route(self, wanted: str) -> list[str]:
        def fits(place: str) -> bool:
            if wanted == self.lamp:
                return kind(place) in _LAMP_STANDS
            # A place of an unknown kind, as a made-up tool's, may hold anything.
            return wanted in _HOLDS.get(kind(place), (wanted,)) and kind(place) != self.place

        def rank(place: str) -> int:
            return _ORDER.index(kind(place) if kind(place) in _ORDER else "sinkbasin")

        left = [p for p in self.places if p not in self.contents and fits(p)]
        if not left:
            raise Lost(f"no {wanted} in any place that may hold one")
        return sorted(left, key=lambda p: (rank(p), kind(p), _number(p)))
