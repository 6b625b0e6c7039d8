"""Trying things out in a failed training game, as a person would: bounded, and recorded step by step.

The failed episode is not replayed action by action: the game is frozen and the episode's record already holds what each
of its actions showed. The probe starts the game anew with that knowledge: it fetches the thing the task names, carries
it from place to place, reads which actions open up, and carries each of them out in a game of its own, to the end the
task asks for. Only the environment's verdict on that end links a tool with a goal's word ("hot" with "heat").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stages.core.records import SCHEMA_VERSION, Episode
from stages.envs.base import Environment, Observation, Task
from stages.hinting.alfworld.reading import Goal, Notes, done, is_step, kind, notes_of, read_goal, sweep, verb_of
from stages.hinting.base import ProbeRecord, ProbeStep, ToolTrial


def probe(env: Environment, task: Task, episode: Episode, budget: int) -> ProbeRecord:
    """Look for the step that a failed episode missed, within `budget` environment steps (resets are free).

    Raises what the environment raises (`EnvironmentFault`).
    """
    goal = _open_goal(episode)
    game = _Game(env, task, budget, notes_of(episode))
    trials: list[ToolTrial] = []
    outcome = "no_step"
    if goal is not None:
        try:
            outcome = _investigate(game, goal, episode, trials)
        except _OutOfSteps:
            outcome = "unverified" if trials else "budget"
    return ProbeRecord(
        SCHEMA_VERSION,
        episode.episode_id,
        episode.task_id,
        episode.env,
        episode.agent,
        episode.category,
        budget,
        len(game.steps),
        outcome,
        game.steps,
        trials,
    )


def _open_goal(episode: Episode) -> Goal | None:
    """The goal, if it asks for more than carrying and its own verb (where it has one) was not carried out."""
    goal = read_goal(episode.goal)
    if goal is None or not goal.asks_step or (goal.word and done(episode, [goal.word])):
        return None
    return goal


class _OutOfSteps(Exception):
    """The budget is spent."""


class _Game:
    """The environment with a budget, a record, and notes that outlast a reset (the game is frozen)."""

    def __init__(self, env: Environment, task: Task, budget: int, notes: Notes) -> None:
        self._env = env
        self._task = task
        self._budget = budget
        self.notes = notes
        self.steps: list[ProbeStep] = []
        self.attempt = 0
        self.at: str | None = None

    def reset(self) -> None:
        self.attempt += 1
        self.at = None
        seen = self._env.reset(self._task)
        self.offered = seen.admissible
        self._ever = set(seen.admissible)

    @property
    def places(self) -> list[str]:
        """All places of the room: those on offer and the one at hand."""
        offered = [action.removeprefix("go to ") for action in self.offered if action.startswith("go to ")]
        return sweep({*offered, *([self.at] if self.at else [])})

    def step(self, action: str) -> Observation:
        if len(self.steps) >= self._budget:
            raise _OutOfSteps
        seen = self._env.step(action)
        opened = sorted(set(seen.admissible) - self._ever)
        self.steps.append(ProbeStep(self.attempt, action, seen.text, opened))
        self.offered = seen.admissible
        self._ever.update(seen.admissible)
        if seen.valid:
            self.notes.note(action, seen.text)
            if action.startswith("go to "):
                self.at = action.removeprefix("go to ")
        return seen

    def visit(self, place: str, inside: bool) -> None:
        """Go to a place; `inside`: open it where that is on offer."""
        if self.at != place:
            self.step(f"go to {place}")
        if inside and f"open {place}" in self.offered:
            self.step(f"open {place}")


@dataclass(frozen=True)
class _Hold:
    """A thing and the place it is taken from."""

    item: str
    place: str


def _investigate(game: _Game, goal: Goal, episode: Episode, trials: list[ToolTrial]) -> str:
    game.reset()
    hold = _search(game, goal)
    if hold is None:
        return "not_found"
    tried: set[tuple[str, str]] = set()
    for found in _survey(game, goal, hold, episode):
        for action, place in sorted(found, key=lambda f: not goal.names(verb_of(f[0]))):
            # One trial for each verb and class of place: what microwave 1 does not do, microwave 2 won't.
            key = (verb_of(action), kind(place))
            if key in tried:
                continue
            tried.add(key)
            trials.append(_try_out(game, goal, hold, action, place))
            if trials[-1].success:
                return "verified"
    return "unverified" if trials else "no_tool"


def _search(game: _Game, goal: Goal) -> _Hold | None:
    """Fetch the thing the goal names: first where it was seen, then where nobody has looked, the goal's own place
    last."""
    notes = game.notes
    known = notes.places_of(goal.thing)
    unseen = [place for place in game.places if place not in notes.looked]
    unseen.sort(key=lambda place: kind(place) == goal.place)
    for place in dict.fromkeys([*known, *unseen, *game.places]):
        game.visit(place, inside=True)
        items = [a.removeprefix("take ").removesuffix(f" from {place}") for a in game.offered if a.startswith("take ")]
        item = next((i for i in items if kind(i) == goal.thing), None)
        if item is not None:
            game.step(f"take {item} from {place}")
            return _Hold(item, place)
    return None


def _fetch(game: _Game, hold: _Hold) -> None:
    """Start the game anew, up to the point where the thing is in hand."""
    game.reset()
    game.visit(hold.place, inside=True)
    game.step(f"take {hold.item} from {hold.place}")


def _survey(game: _Game, goal: Goal, hold: _Hold, episode: Episode) -> Iterator[list[tuple[str, str]]]:
    """Steps that open up with the thing in hand, as (action, place): at once where the goal's own words name one,
    otherwise after one place of each class, then after all places."""
    promising = _promising(game, goal, episode)
    rest = [place for place in game.places if place not in promising]
    first = list({kind(place): place for place in reversed(rest)}.values())[::-1]
    rounds = [[*promising, *first], [place for place in rest if place not in first]]
    away = False
    for tour in rounds:
        found: list[tuple[str, str]] = []
        for place in tour:
            if away:
                _fetch(game, hold)
                away = False
            game.visit(place, inside=False)
            steps = [(a, place) for a in game.offered if is_step(a, hold.item, goal.tool)]
            found += steps
            named = [s for s in steps if goal.names(verb_of(s[0])) or (goal.tool and goal.tool in s[0])]
            if named:
                away = True  # the trial starts a new game
                yield named
        if found:
            away = True
            yield found


def _promising(game: _Game, goal: Goal, episode: Episode) -> list[str]:
    """Places where the failed episode was offered such a step, or saw the tool that the goal names."""
    places = game.notes.places_of(goal.tool) if goal.tool else []
    at = None
    for turn in episode.turns:
        if at and any(is_step(action, goal.thing, goal.tool) for action in turn.admissible):
            places.append(at)
        if turn.valid and turn.action.startswith("go to "):
            at = turn.action.removeprefix("go to ")
    known = set(game.places)
    return [place for place in dict.fromkeys(places) if place in known]


def _try_out(game: _Game, goal: Goal, hold: _Hold, action: str, place: str) -> ToolTrial:
    """Play the game to its end with this one step in it."""
    _fetch(game, hold)
    game.visit(place, inside=False)
    seen = last = game.step(action)
    if not seen.done and goal.place is not None:
        target = next((p for p in game.places if kind(p) == goal.place), None)
        if target is not None:
            game.visit(target, inside=True)
            drop = (a for a in game.offered if verb_of(a) in ("move", "put") and f" {hold.item} " in a)
            put = next(drop, None)
            last = game.step(put) if put else last
    return ToolTrial(game.attempt, action, place, seen.text, last.done and last.reward >= 1)
