"""What a hint writer works with: failures and what may be read beside them, rules of an environment, what they find, what a probe tried out.

A writer is a function `write(failures, rules, study) -> Written` in a module of `stages/hinting/writers`: the hints of all failed episodes, those of
one failure the most specific first. `study` has all settings. What is written passes the gate (`stages.hinting.gate`) before it reaches the bank.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from stages.core import plugins
from stages.core.params import Hints
from stages.core.records import SCHEMA_VERSION, Answer, Episode, Hint, Rejection
from stages.envs.base import Environment, Task


class Finding(NamedTuple):
    """A lesson and what it rests on."""

    text: str
    evidence: str


@dataclass(frozen=True)
class ProbeStep:
    """One environment step. `attempt` counts the games started, from 1; `opened` lists the actions that were never
    offered before in this attempt."""

    attempt: int
    action: str
    observation: str
    opened: list[str]


@dataclass(frozen=True)
class ToolTrial:
    """One action tried on the way to the goal: `success` is the environment's own verdict on the whole game."""

    attempt: int
    action: str
    place: str
    observation: str
    success: bool


@dataclass(frozen=True)
class ProbeRecord:
    """What a probe did and found.

    `outcome`: `verified` (a trial won the game), `unverified` (trials were made, none won), `no_tool` (no such action
    opened up), `not_found` (the thing was never found), `budget` (out of steps before any of these), `no_step` (nothing
    was tried: the task asks for nothing but carrying, its verb was carried out, or its sentence can't be read).
    `steps_used` never exceeds `budget`.
    """

    schema_version: int
    episode_id: str
    task_id: str
    env: str
    agent: str
    category: str
    budget: int
    steps_used: int
    outcome: str
    steps: list[ProbeStep]
    trials: list[ToolTrial]

    @property
    def winner(self) -> ToolTrial | None:
        """The trial that won the game, if any."""
        return next((trial for trial in self.trials if trial.success), None)


@dataclass(frozen=True)
class Failure:
    """A failed episode, and what may be read beside it: what a probe of its task found, a success of the same category; None where there is none."""

    episode: Episode
    probe: ProbeRecord | None = None
    success: Episode | None = None


@dataclass(frozen=True)
class Written:
    """What a writer made of all failures. A model's writer adds its answers and those that held no hints. `basis` says in words what was read of
    a failure; empty where the environment's rules say it."""

    hints: Sequence[Hint]
    answers: Sequence[Answer] = ()
    rejected: Sequence[Rejection] = ()
    basis: str = ""


def hint_id(episode_id: str, rule: str, text: str) -> str:
    """A hint's name, by its content."""
    return hashlib.sha256(f"{episode_id}|{rule}|{text}".encode()).hexdigest()[:16]


def hint_of(episode: Episode, rule: str, text: str, evidence: str) -> Hint:
    """A hint from a failure."""
    name = hint_id(episode.episode_id, rule, text)
    place = (episode.env, episode.agent, episode.category)
    return Hint(SCHEMA_VERSION, name, *place, text, rule, evidence, episode.episode_id, episode.task_id)


@dataclass(frozen=True)
class HintRules:
    """How an environment's failures are read: by the writer `rules`, and by the gate.

    `findings` gives what each rule finds in a failed episode, with the rule's name. `tiers` ranks rules in the bank: how specific a rule's lessons
    are, 0 the most; those it does not name come after these, alike. `basis` says in words what the rules read, for the report. `probe` tries
    things out in a failed train task, within a budget of environment steps; None where the episode itself shows all that could be done.

    `deeds` are words that advise an action beside the first words of the actions themselves. `names` are what tasks call their things (of a panel
    folder), which no hint may name if only a measured panel has them; None: the texts among `EnvSpec.same_goal`.
    """

    findings: Callable[[Episode, ProbeRecord | None, Hints], Iterator[tuple[str, Finding]]]
    tiers: Mapping[str, int]
    basis: Callable[[Hints], str]
    probe: Callable[[Environment, Task, Episode, int], ProbeRecord] | None = None
    deeds: frozenset[str] = frozenset()
    names: Callable[[Sequence[Task], Path], Iterable[str]] | None = None


def rules_of(env: str) -> HintRules:
    """The rules of an environment, as `EnvSpec.hint_rules` names them. Raises `PluginError`."""
    reference = plugins.environment(env).hint_rules
    found = plugins.resolve(reference)
    if not isinstance(found, HintRules):
        raise plugins.PluginError(f"{reference}: expected HintRules, found {found!r:.80}")
    return found


def pick(options: Sequence[str], key: str) -> str:
    """One of the options, always the same for a key."""
    return options[int(hashlib.sha256(key.encode()).hexdigest(), 16) % len(options)]
