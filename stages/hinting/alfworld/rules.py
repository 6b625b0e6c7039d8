"""What a failed episode teaches: one pure function a lesson, the most specific first.

A rule reads the episode's own text and the probe's record, and gives the lesson with the evidence for it, or None.
Tools are called by the names that the environment showed; no rule knows one beforehand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from stages.core.params import Hints
from stages.core.records import Episode, Turn
from stages.hinting.alfworld.reading import (
    Goal,
    Notes,
    done,
    is_step,
    kind,
    names_in,
    notes_of,
    offers,
    read_goal,
    verb_of,
)
from stages.hinting.base import Finding, ProbeRecord, pick
from stages.language import household as wording
from stages.language.forms import fitting


@dataclass(frozen=True)
class Case:
    """One failure with everything a rule may look at; `max_chars` bounds a lesson's length."""

    episode: Episode
    probe: ProbeRecord | None
    max_chars: int

    @cached_property
    def goal(self) -> Goal | None:
        return read_goal(self.episode.goal)

    @cached_property
    def notes(self) -> Notes:
        return notes_of(self.episode)

    @cached_property
    def offers(self) -> Sequence[str]:
        return offers(self.episode)

    @cached_property
    def taken(self) -> list[str]:
        """Things taken, in their order."""
        return [action.removeprefix("take ").split(" from ")[0] for action in done(self.episode, ["take"])]

    def has_taken(self, wanted: str) -> bool:
        return any(kind(item) == wanted for item in self.taken)


Rule = Callable[[Case], Finding | None]


def tool_verified(case: Case) -> Finding | None:
    """The probe won the game with a step that the episode never carried out."""
    winner = case.probe.winner if case.probe else None
    if winner is None or case.goal is None or _carried_out(case, verb_of(winner.action)):
        return None
    evidence = f"probe: '{winner.action}' at {winner.place}: {winner.observation} Then the task was done."
    return _tool_lesson(case, winner.action, evidence)


def tool_offered(case: Case) -> Finding | None:
    """A step that the goal's own words name was offered, in the episode or the probe, and never carried out."""
    goal = case.goal
    if goal is None:
        return None
    probed = [action for step in case.probe.steps for action in step.opened] if case.probe else []
    for action in (*case.offers, *probed):
        named = goal.names(verb_of(action)) or (goal.tool is not None and kind(action.partition(" ")[2]) == goal.tool)
        if named and is_step(action, goal.thing, goal.tool) and not _carried_out(case, verb_of(action)):
            return _tool_lesson(case, action, f"offered and never used: '{action}'")
    return None


def step_missing(case: Case) -> Finding | None:
    """The goal has a verb or adjective of its own, nothing but carrying was done, and no tool for it is known."""
    goal = case.goal
    if tool_verified(case) or tool_offered(case):
        return None
    others = [turn.action for turn in case.episode.turns if turn.valid and is_step(turn.action, *_target(goal))]
    if goal is None or goal.word is None or others or not case.has_taken(goal.thing):
        return None
    text = wording.STEP_FORM.format(word=goal.word)
    return Finding(text, f"the task says '{goal.word}', and only carrying was done")


def second_missing(case: Case) -> Finding | None:
    """Two things were asked for, and one was put in its place."""
    moved = [action for action in _moves(case) if case.goal and case.goal.two]
    return Finding(wording.SECOND, f"only '{moved[0]}'") if len(set(moved)) == 1 else None


def unplaced(case: Case) -> Finding | None:
    """The thing was taken, and all was done to it, but it was never put where it belongs."""
    goal = case.goal
    if goal is None or goal.place is None or not case.has_taken(goal.thing) or _moves(case):
        return None
    if goal.word and not any(is_step(turn.action, goal.thing, None) for turn in case.episode.turns if turn.valid):
        return None
    offered = next((a for a in case.offers if _is_move(a, goal)), None)
    return Finding(wording.UNPLACED, f"never used: '{offered}'" if offered else f"took {case.taken[0]}, put it nowhere")


def untaken(case: Case) -> Finding | None:
    """The thing was on offer and was never taken."""
    goal = case.goal
    if goal is None or case.has_taken(goal.thing):
        return None
    offered = next((a for a in case.offers if a.startswith("take ") and is_thing(a, goal.thing)), None)
    return Finding(wording.UNTAKEN, f"never used: '{offered}'") if offered else None


def wrong_object(case: Case) -> Finding | None:
    """Something was taken that the task does not name."""
    odd = next((item for item in case.taken if case.goal and kind(item) != case.goal.thing), None)
    return Finding(wording.WRONG_OBJECT, f"took {odd}; the task: {case.episode.goal}") if odd else None


def absent_object(case: Case) -> Finding | None:
    """A thing was to be taken that the place does not hold."""
    turn = next((turn for turn, listed in _refused_takes(case) if not listed), None)
    return Finding(wording.ABSENT_OBJECT, _said(turn)) if turn else None


def hand_full(case: Case) -> Finding | None:
    """A thing was to be taken that lay there, with another in hand."""
    turn = next((turn for turn, listed in _refused_takes(case) if listed), None)
    return Finding(wording.HAND_FULL, _said(turn)) if turn and case.taken else None


def absent_place(case: Case) -> Finding | None:
    """A place was to be visited that the room does not have."""
    known = set(names_in(case.episode.opening))
    for turn in case.episode.turns:
        place = turn.action.removeprefix("go to ")
        if not turn.valid and turn.action.startswith("go to ") and place not in known:
            return Finding(wording.ABSENT_PLACE, _said(turn))
    return None


def closed(case: Case) -> Finding | None:
    """The thing was never found, while a closed place was visited and not opened."""
    shut = sorted(case.notes.closed)
    return Finding(wording.CLOSED, f"left closed: {', '.join(shut)}") if shut and _not_found(case) else None


def unvisited(case: Case) -> Finding | None:
    """The thing was never found, and places were left unvisited."""
    places = names_in(case.episode.opening)
    left = [place for place in places if place not in case.notes.visits]
    return Finding(wording.UNVISITED, f"not visited: {', '.join(left[:5])}") if left and _not_found(case) else None


def revisited(case: Case) -> Finding | None:
    """The thing was never found, and a place was visited twice."""
    twice = next((place for place, count in case.notes.visits.items() if count > 1), None)
    return Finding(wording.REVISITED, f"visited {twice} more than once") if twice and _not_found(case) else None


def refused(case: Case) -> Finding | None:
    """An action that the environment had refused was given again."""
    counts = Counter(turn.action for turn in case.episode.turns if turn.action and not turn.valid)
    again = next((action for action, count in counts.items() if count > 1), None)
    return Finding(wording.REFUSED, f"'{again}': refused {counts[again]} times") if again else None


def repeated(case: Case) -> Finding | None:
    """An action was carried out three times or more, with the same result."""
    counts = Counter((turn.action, turn.observation) for turn in case.episode.turns if turn.valid)
    often = next((pair for pair, count in counts.items() if count > 2), None)
    return Finding(wording.REPEATED, f"'{often[0]}' {counts[often]} times: {often[1]}") if often else None


def unreadable(case: Case) -> Finding | None:
    """A reply held no action."""
    turn = next((turn for turn in case.episode.turns if not turn.action), None)
    return Finding(wording.FORMAT, f"no action in: {turn.reply[:80]!r}") if turn else None


RULES: tuple[Rule, ...] = (
    tool_verified,
    tool_offered,
    step_missing,
    second_missing,
    unplaced,
    untaken,
    wrong_object,
    absent_object,
    hand_full,
    absent_place,
    closed,
    unvisited,
    revisited,
    refused,
    repeated,
    unreadable,
)
"""Most specific first."""

TIERS = {"tool_verified": 0, "tool_offered": 1, "step_missing": 2}
"""How specific a rule's lessons are, 0 the most: a tool that won a game, a tool that was on offer, a missing step; all others
come after these, alike."""


def findings(episode: Episode, probe: ProbeRecord | None, settings: Hints) -> Iterator[tuple[str, Finding]]:
    """What each rule finds in a failed episode, with the rule's name."""
    case = Case(episode, probe, settings.max_chars)
    for rule in RULES:
        finding = rule(case)
        if finding is not None:
            yield rule.__name__, finding


def is_thing(action: str, thing: str) -> bool:
    """The action's first argument is a thing of this class."""
    return f" {action.partition(' ')[2]} ".startswith(f" {thing} ")


def _tool_lesson(case: Case, action: str, evidence: str) -> Finding | None:
    verb, _, rest = action.partition(" ")
    _, by, place = rest.partition(" with ")
    forms, tool = (wording.TOOL_FORMS, kind(place)) if by else (wording.USE_FORMS, kind(rest))
    options = fitting(forms, case.max_chars, verb=verb, tool=tool)
    # One wording a tool, so that equal lessons merge and take one place among the k that are shown.
    return Finding(pick(options, f"{verb}|{tool}"), evidence) if options else None


def _target(goal: Goal | None) -> tuple[str, str | None]:
    return (goal.thing, goal.tool) if goal else ("", None)


def _carried_out(case: Case, verb: str) -> bool:
    return any(is_step(action, *_target(case.goal)) for action in done(case.episode, [verb]))


def _is_move(action: str, goal: Goal) -> bool:
    """Puts a thing the goal names into a place of the goal's class ("move egg 1 to fridge 1", "put egg 1 in/on fridge
    1")."""
    return (
        verb_of(action) in ("move", "put") and is_thing(action, goal.thing) and kind(action).endswith(f" {goal.place}")
    )


def _moves(case: Case) -> list[str]:
    goal = case.goal
    return [a for a in done(case.episode, ["move", "put"]) if goal and _is_move(a, goal)]


def _not_found(case: Case) -> bool:
    """The thing was never taken, nor on offer."""
    goal = case.goal
    return goal is not None and not case.has_taken(goal.thing) and untaken(case) is None


def _refused_takes(case: Case) -> list[tuple[Turn, bool]]:
    """Every refused attempt to take something, and whether the place at hand had been seen to hold it."""
    found = []
    shown: list[str] = []
    for turn in case.episode.turns:
        if turn.valid and verb_of(turn.action) in ("go", "open"):
            shown = names_in(turn.observation)
        elif not turn.valid and turn.action.startswith("take "):
            item = turn.action.removeprefix("take ").split(" from ")[0]
            found.append((turn, item in shown))
    return found


def _said(turn: Turn) -> str:
    return f"'{turn.action}': {turn.observation}"
