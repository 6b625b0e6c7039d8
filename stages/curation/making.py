"""The lessons of a cell's arms, from the episodes that each learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from stages import agents
from stages.core import plugins
from stages.core.arms import ARMS
from stages.core.params import Cell, Settings
from stages.core.process import Fault
from stages.core.records import Episode, Lesson, Message, read
from stages.curation.budgets import mixed
from stages.curation.gates import Evidence, no_measured_goal, sharing
from stages.curation.lessons import Limits, build_lessons
from stages.envs.base import Task
from stages.envs.panel import load_panel, panel_names
from stages.models.chat import Chat
from stages.models.conversation import Encoded, examples

PANEL = "train"


class LessonError(Fault, ValueError):
    """There is nothing to learn from, or it is not what it should be."""


@dataclass(frozen=True)
class Made:
    """An arm's lessons, its episodes, and why some of them were dropped; `known` are episodes of the base agent that lessons mixed in are of."""

    lessons: Sequence[Lesson]
    episodes: Sequence[Episode]
    dropped: Mapping[str, int]
    known: Sequence[Episode] = ()


@dataclass(frozen=True)
class Maker:
    """Makes the lessons of a cell: `data` is the folder of the stages' outputs, `chat` the base model's."""

    cell: Cell
    settings: Settings
    chat: Chat
    data: Path

    def made(self, arm: str) -> Made:
        """The lessons of an arm, before budgets are matched. Raises `LessonError` where there is none, or an episode is of another panel."""
        how, source = ARMS[arm], self._source(arm)
        episodes = self._played(source)
        if how.teacher and how.learning == "on_policy":
            teacher = self._teacher(how.teacher)
            episodes = told(episodes, self._played(teacher), teacher)
        lessons, dropped = self._built(arm, episodes)
        if not lessons:
            raise LessonError(
                f"{source}: none of {len(episodes)} episodes gives a lesson ({counts(dropped)}), so arm {arm!r} has "
                "nothing to learn. Give the train panel more or easier tasks (panels), or the base model a longer warm-up"
            )
        share = self.settings.lessons.known
        if not share or source == self._rollouts:
            return Made(lessons, episodes, dropped)
        hidden = self.settings.warmup.hidden(self.cell.env)
        own = [episode for episode in self._played(self._rollouts) if episode.skill not in hidden]
        both = mixed(lessons, self._built(arm, own)[0], share, self.settings.lessons.seed)
        return Made(both, episodes, dropped, own)

    def evidence(self, made: Made) -> Evidence:
        """What an arm's lessons are held against."""
        keep = self.settings.lessons.shared_goals == "keep"
        return Evidence(
            episodes={episode.episode_id: episode for episode in (*made.episodes, *made.known)},
            tasks={task.task_id: task for task in self._train[0]},
            measured=self._measured,
            asks=plugins.environment(self.cell.env).asks,
            encode=self._encode,
            decode=self.chat.decode,
            ngram=self._limits.ngram,
            max_tokens=self._limits.max_tokens,
            waived=frozenset({no_measured_goal.__name__} if keep else ()),
        )

    def without(self, lessons: Sequence[Lesson]) -> list[str]:
        """The categories of the train panel that none of the lessons is of."""
        return sorted({task.category for task in self._train[0]} - {lesson.category for lesson in lessons})

    def _built(self, arm: str, episodes: Sequence[Episode]) -> tuple[list[Lesson], dict[str, int]]:
        return build_lessons(arm, episodes, agents.get(self.cell.agent, self.cell.env), self._encode, self._limits)

    @property
    def _rollouts(self) -> Path:
        return self.data / "rollouts" / self.cell / "episodes.parquet"

    def _teacher(self, retrieval: str) -> Path:
        return self.data / "teacher" / self.cell / retrieval / "episodes.parquet"

    def _source(self, arm: str) -> Path:
        """Where the replies are that an arm learns."""
        how = ARMS[arm]
        return self._teacher(how.teacher) if how.teacher and how.learning == "sft" else self._rollouts

    def _played(self, source: Path) -> list[Episode]:
        episodes, sha256 = read(source, Episode), self._train[1]
        strangers = [e.episode_id for e in episodes if (e.panel, e.panel_sha256) != (PANEL, sha256)]
        if strangers:
            raise LessonError(
                f"{source}: {len(strangers)} episodes, {strangers[0]} the first, were not played on the {PANEL} panel "
                f"as it stands ({sha256[:12]}); run `dvc repro {source.relative_to(self.data).parts[0]}`"
            )
        return episodes

    def _encode(self, messages: Sequence[Message]) -> list[Encoded]:
        return examples(self.chat, messages)

    @property
    def _panels(self) -> Path:
        return self.data / "panels" / self.cell.env

    @cached_property
    def _train(self) -> tuple[list[Task], str]:
        return load_panel(self._panels, PANEL)

    @cached_property
    def _measured(self) -> list[Task]:
        panels = [name for name in panel_names(self._panels) if name != PANEL]
        return [task for name in panels for task in load_panel(self._panels, name)[0]]

    @cached_property
    def _limits(self) -> Limits:
        lessons, env = self.settings.lessons, self.cell.env
        asks, keep = plugins.environment(env).asks, lessons.shared_goals == "keep"
        return Limits(
            lessons.max_refused[env],
            lessons.ngram,
            self.settings.students[env].max_tokens,
            barred=frozenset() if keep else sharing(self._train[0], self._measured, asks),
            shots=self.settings.agent.shots[env],
        )


def told(episodes: Sequence[Episode], teacher: Sequence[Episode], source: Path) -> list[Episode]:
    """Episodes with the hints that the teacher was shown at the same tasks. Where the machine broke the teacher off, these are not known, and the episode
    counts as broken off too. Raises `LessonError` for a task that the teacher has not played; `source` is where its episodes are from.
    """
    shown = {episode.task_id: episode for episode in teacher}
    lacking = [episode.task_id for episode in episodes if episode.task_id not in shown]
    if lacking:
        raise LessonError(f"{source}: no episode of {lacking[0]}, one of {len(lacking)}; run `dvc repro teacher`")
    return [
        replace(e, hint_ids=t.hint_ids, hints=t.hints, machine_failure=e.machine_failure or t.machine_failure)
        for e, t in ((episode, shown[episode.task_id]) for episode in episodes)
    ]


def counts(dropped: Mapping[str, int]) -> str:
    """Reasons and their numbers in a line."""
    return ", ".join(f"{reason} {count}" for reason, count in dropped.items()) or "none"
