"""The gate between writers and the bank: what a hint may not be, whoever wrote it, with the reason for each that is turned away.

A hint is held against the failure that it came from and against its bank. Of the measured panels (dev, test) the gate knows the names of their things,
to turn a hint away that names one: nothing is written, worded, ranked or chosen by them, and how many were turned away stands in the funnel.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from stages.core.records import SCHEMA_VERSION, Episode, Hint, Rejection
from stages.hinting.bank import normalise
from stages.hinting.base import hint_id

Place = tuple[str, str, str]  # environment, agent, category: of a bank's list

COPIED = 3  # words that say something, in a row, that stand in the task or on a page
_PLACEHOLDER = re.compile(r"\{+\s*([^{}]*?)\s*\}+|<\s*([a-z][a-z _]*\d*)\s*>", re.I)
_NUMBERED = re.compile(r"\b([a-z]+) (\d+)\b")
_ID = re.compile(r"\b(?=\w*\d)(?=\w*[a-z])\w{4,}\b")
_NUMBER = re.compile(r"\d+(?:,\d{3}(?!\d))*(?:\.\d+)?")  # 60, 60.00, 1,299.99
_PRICE = re.compile(rf"\$ ?({_NUMBER.pattern})")
_SMALL = (
    "a an and any are as at be by do for from go i if in is it its more no not of on or so some than that the then there this to up with "
    "you your"
)
_FUNCTION = frozenset(_SMALL.split())
_ALWAYS = frozenset({"action", "actions", "command", "commands", "reply", "replies"})  # what every environment has
_NEGATION = re.compile(r"^(?:never|do not|dont|avoid|stop)\b ?")
_FILLERS = frozenset(
    {"the", "a", "an", "always", "first", "then", "please", "and", "but", "only"}
)  # say nothing of what is done


@dataclass(frozen=True)
class Source:
    """A failed episode as the gate reads it."""

    episode: Episode

    @cached_property
    def texts(self) -> list[str]:
        """All that the episode was shown and did, in lower case."""
        turns = self.episode.turns
        shown = [self.episode.goal, self.episode.opening, *(turn.observation for turn in turns)]
        return [
            text.lower() for text in [*shown, *(t.action for t in turns), *(a for t in turns for a in t.admissible)]
        ]

    @cached_property
    def whole(self) -> str:
        return "\n".join(dict.fromkeys(self.texts))

    @cached_property
    def numbered(self) -> frozenset[str]:
        return frozenset(" ".join(found) for found in _NUMBERED.findall(self.whole))

    @cached_property
    def ids(self) -> frozenset[str]:
        return frozenset(_ID.findall(self.whole))

    @cached_property
    def amounts(self) -> frozenset[float]:
        """The numbers of the task, and the prices that were shown."""
        numbers = (*_NUMBER.findall(self.episode.goal), *_PRICE.findall(self.whole))
        return frozenset(map(_amount, numbers))

    @cached_property
    def runs(self) -> frozenset[tuple[str, ...]]:
        """All words in a row, `COPIED` that say something among them, of the task and of what was shown."""
        shown = [self.episode.goal, self.episode.opening, *(turn.observation for turn in self.episode.turns)]
        return frozenset(run for text in shown for line in text.splitlines() for run in _runs(line))

    @cached_property
    def scripts(self) -> frozenset[str]:
        return frozenset(_scripts(self.whole)) | {"LATIN"}


@dataclass(frozen=True)
class Gate:
    """What hints are held against besides their own failure: their length, how many a failure may have, the words that name an action, and the names
    that only measured panels have (see `foreign`)."""

    max_chars: int
    most: int
    deeds: frozenset[str]
    foreign: frozenset[str] = frozenset()

    def passes(self, hints: Sequence[Hint], episodes: Mapping[str, Episode]) -> tuple[list[Hint], list[Rejection]]:
        """The hints that are taken, and those that are not. `episodes` are the failures they came from, by id."""
        taken: list[Hint] = []
        rejected: list[Rejection] = []
        sources = {name: Source(episode) for name, episode in episodes.items()}
        said: dict[str, set[str]] = defaultdict(set)
        for hint in map(tidy, hints):
            fault = self._fault(hint, sources[hint.episode_id], said[hint.episode_id])
            if fault:
                rejected.append(_rejection(hint, *fault))
            else:
                said[hint.episode_id].add(hint.text)
                taken.append(hint)
        opposed = contradictions(taken)
        rejected += [
            _rejection(h, "contradiction", opposed[_of(h), h.text]) for h in taken if (_of(h), h.text) in opposed
        ]
        return [h for h in taken if (_of(h), h.text) not in opposed], rejected

    def _fault(self, hint: Hint, source: Source, said: set[str]) -> tuple[str, str] | None:
        """The first reason not to take a hint, with what it rests on."""
        text = hint.text
        checks: list[tuple[str, Callable[[], str]]] = [
            ("empty", lambda: "" if re.search(r"\w", text) else "no letter in it"),
            ("long", lambda: f"{len(text)} characters" if len(text) > self.max_chars else ""),
            ("script", lambda: ", ".join(sorted(set(_scripts(text)) - source.scripts)).lower()),
            ("particular", lambda: _particular(text, source)),
            ("measured", lambda: next((name for name in sorted(self.foreign) if _names(text, name)), "")),
            ("copied", lambda: " ".join(next((run for run in _runs(text) if run in source.runs), ()))),
            ("idle", lambda: "" if self._acts(text) else "no action in it"),
            ("repeated", lambda: "word for word" if text in said else ""),
            ("surplus", lambda: f"more than {self.most}" if len(said) >= self.most else ""),
        ]
        return next(((reason, detail) for reason, check in checks if (detail := check())), None)

    def _acts(self, text: str) -> bool:
        deeds = self.deeds | _ALWAYS
        return any(form in deeds for word in re.findall(r"[a-z]+", text.lower()) for form in _stems(word))


def tidy(hint: Hint) -> Hint:
    """White space and placeholders of one spelling: `<Object 1>`, `{ object_1 }` and `{{object}}` are `{object}`."""
    text = " ".join(_PLACEHOLDER.sub(_spelled, hint.text).split())
    return replace(hint, text=text, hint_id=hint_id(hint.episode_id, hint.rule, text))


def deeds(episodes: Iterable[Episode], more: Iterable[str]) -> frozenset[str]:
    """Words that name an action: the first word of each that was offered or carried out, and of an environment's own."""
    actions = (a for e in episodes for t in e.turns for a in (*t.admissible, *([t.action] if t.valid else [])))
    firsts = {found[0] for action in actions if (found := re.match(r"[a-z]+", action.lower()))}
    return frozenset(firsts) | frozenset(more)


def foreign(measured: Iterable[str], episodes: Iterable[Episode]) -> frozenset[str]:
    """Of the names of things in measured tasks those that no episode on the train panel shows, as words without punctuation. Of a name of three words
    and more, such as a product's title, its first three are kept, shown or not: no hint needs one."""
    names = {tuple(_words(name)[:3]) for name in measured}
    shown: set[str] = set()
    for episode in episodes:
        shown.update(_words(Source(episode).whole))
    return frozenset(" ".join(name) for name in names if len(name) == 3 or not shown.issuperset(name))


def contradictions(hints: Sequence[Hint]) -> dict[tuple[Place, str], str]:
    """Texts that say the opposite of one that more failures of their category call for, by category and text, with that other text."""
    counts: dict[Place, Counter[str]] = defaultdict(Counter)
    for hint in hints:
        counts[_of(hint)][hint.text] += 1
    opposed: dict[tuple[Place, str], str] = {}
    for place, texts in counts.items():
        advice: dict[tuple[str, bool], str] = {}
        for text in sorted(texts, key=lambda t: (-texts[t], t)):
            clauses = list(_clauses(text))
            other = next((advice[what, not to] for what, to in clauses if (what, not to) in advice), None)
            if other is not None:
                opposed[place, text] = other
                continue
            for clause in clauses:
                advice.setdefault(clause, text)
    return opposed


def _clauses(text: str) -> Iterator[tuple[str, bool]]:
    """What a hint says to do (True) and not to do (False), a clause each, of two words and more."""
    for part in re.split(r"[.,;:!?]|\bbut\b", text):
        words = [word for word in normalise(part).split() if word not in _FILLERS]
        clause = " ".join(words)
        what = _NEGATION.sub("", clause)
        if " " in what:
            yield what, what == clause


def _particular(text: str, source: Source) -> str:
    """A thing with its number, an id, a number of the task or a price that a hint took over from its failure."""
    bare = re.sub(r"\{[^{}]*\}", " ", text.lower())
    things = [" ".join(found) for found in _NUMBERED.findall(bare)]
    found = [
        *(thing for thing in things if thing in source.numbered),
        *(name for name in _ID.findall(bare) if name in source.ids),
        *(number for number in _NUMBER.findall(bare) if _amount(number) in source.amounts),
    ]
    return found[0] if found else ""


def _amount(number: str) -> float:
    return float(number.replace(",", ""))


def _names(text: str, name: str) -> bool:
    return f" {name} " in f" {' '.join(_words(text))} "


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    """The shortest stretches of a text that have `COPIED` words that say something, as lower-case words."""
    words = normalise(text).split()
    said = [place for place, word in enumerate(words) if word not in _FUNCTION]
    for first, last in zip(said, said[COPIED - 1 :], strict=False):
        yield tuple(words[first : last + 1])


def _scripts(text: str) -> Iterator[str]:
    """The scripts of a text's letters, by the names of Unicode."""
    for letter in dict.fromkeys(text):
        if letter.isalpha():
            yield unicodedata.name(letter, "UNKNOWN").split()[0]


def _stems(word: str) -> Iterator[str]:
    """A verb's form, and what it may be a form of."""
    yield word
    for ending in ("s", "es", "ing", "ed"):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            stem = word.removesuffix(ending)
            yield from (stem, f"{stem}e")
            if stem[-1] == stem[-2]:
                yield stem[:-1]


def _spelled(found: re.Match[str]) -> str:
    name = (found[1] if found[1] is not None else found[2]).lower().replace("_", " ")
    return f"{{{re.sub(r' *[0-9]+$', '', name).strip()}}}"


def _of(hint: Hint) -> Place:
    return hint.env, hint.agent, hint.category


def _rejection(hint: Hint, reason: str, detail: str) -> Rejection:
    return Rejection(SCHEMA_VERSION, *_of(hint), hint.text, hint.rule, reason, detail, hint.episode_id, hint.task_id)
