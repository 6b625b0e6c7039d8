"""An agent plays one task while somebody watches: the runner's own episode, each reply and observation printed as it comes."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from stages.agents import get
from stages.agents.base import Agent
from stages.core.params import Cell, Settings
from stages.core.records import Message
from stages.engines.base import Engine, Reply
from stages.envs.base import Environment, Observation, Task
from stages.retrieval.retriever import Chooser, Question, Retrieved, Start
from stages.runner.episodes import play_tasks
from stages.runner.journal import Journal
from stages.runner.study import Runner, System, open_engine
from stages.viewing.episodes import failures_behind
from stages.viewing.pages import hint_rows, outcome_rows, reply_rows, seen_row, system_rows, tokens_row
from stages.viewing.terminal import Row, labelled, say


def watch(
    console: Console,
    settings: Settings,
    cell: Cell,
    system: System,
    task: Task,
    panel_sha256: str,
    make_env: Callable[[], Environment],
) -> int:
    """Let a system play the task; 1 when the machine broke it off.

    Raises a `Fault` when something the system needs is missing or broken.
    """
    runner = Runner(settings, cell, system)
    agent = get(cell.agent, cell.env, settings.agent.reading)
    alone = settings.model_copy(update={"engine": settings.engine.model_copy(update={"slots": 1})})
    engine = open_engine(alone, cell, system.adapter)
    say(console, labelled(system_rows(system.name, system.seed, cell.agent, runner.model, engine.name)))
    # The journal goes with its folder: what is watched is no record.
    with (
        contextlib.redirect_stderr(_NoTerminal()),
        tempfile.TemporaryDirectory() as folder,
        Journal(Path(folder), {}, "") as journal,
    ):
        watched = WatchedEngine(engine, agent, console)
        [episode] = play_tasks(
            [task],
            runner.rules({task.panel: panel_sha256}),
            agent,
            watched,
            lambda: WatchedEnv(make_env(), watched, console),
            runner.category,
            WatchedRetriever(runner.retriever, watched, failures_behind(cell.env, cell.agent), console),
            journal,
        )
    say(console, labelled(outcome_rows(episode)))
    return 1 if episode.machine_failure else 0


class WatchedEngine:
    """An engine whose replies are printed as they come, as the agent reads them."""

    def __init__(self, engine: Engine, agent: Agent, console: Console) -> None:
        self._engine, self._agent, self._console = engine, agent, console
        self.choosing = False
        self.begin()

    def begin(self) -> None:
        """Count turns from 1 again."""
        self._turn = 0
        self._taken: list[Row] = []  # by the newest reply, as long as nothing has answered it

    def answer(self, row: Row) -> None:
        """Print what came of the newest reply, and what that took."""
        say(self._console, labelled([row, *self._taken], 0))
        self._taken = []

    @property
    def slots(self) -> int:
        return self._engine.slots

    @property
    def name(self) -> str:
        return self._engine.name

    def open(self, seed: int) -> int:
        return self._engine.open(seed)

    def submit(self, session: int, messages: Sequence[Message]) -> None:
        if self._taken:  # the environment had no say: the agent is asked for another reply
            self.answer(("asked", messages[-1].content))
        self._engine.submit(session, messages)

    def poll(self) -> list[Reply]:
        replies = self._engine.poll()
        for reply in replies if not self.choosing else ():
            if reply.finish == "context":
                say(self._console, labelled([("window", "the prompt has outgrown the model's window")], 0))
                continue
            if reply.finish == "fault":
                say(self._console, labelled([("engine", reply.error)], 0))
                continue
            self._turn += 1
            self._taken = [tokens_row(reply.prompt_tokens, reply.computed_tokens, reply.reply_tokens)]
            rows = reply_rows(self._agent.parse(reply.text), reply.finish)
            say(self._console, labelled(rows, self._turn), gap=False)
        return replies

    def close(self, session: int) -> None:
        self._engine.close(session)


class WatchedEnv:
    """An environment whose observations are printed as they come, each under the reply that it answers."""

    def __init__(self, env: Environment, engine: WatchedEngine, console: Console) -> None:
        self._env, self._engine, self._console = env, engine, console

    def reset(self, task: Task) -> Observation:
        seen = self._env.reset(task)
        self._engine.begin()
        say(self._console, labelled([("opening", seen.text)]))
        return seen

    def step(self, action: str) -> Observation:
        seen = self._env.step(action)
        self._engine.answer(seen_row(seen.text, seen.valid))
        return seen


class WatchedRetriever:
    """What chooses hints, with the choice printed: also a model's own, whose reply is no turn."""

    def __init__(
        self, retriever: Chooser, engine: WatchedEngine, failures: Mapping[str, int], console: Console
    ) -> None:
        self._retriever, self._engine, self._failures, self._console = retriever, engine, failures, console

    def retrieve(self, start: Start) -> Retrieved | Question:
        found = self._retriever.retrieve(start)
        if isinstance(found, Retrieved):
            return self._told(found)
        self._engine.choosing = True
        return Question(found.messages, lambda *reply: self._told(found.chosen(*reply)))

    def _told(self, hints: Retrieved) -> Retrieved:
        self._engine.choosing = False
        rows = hint_rows(hints.entry_ids, hints.texts, self._failures)
        by_rank = [("by rank", f"the model's choice could not be read: {hints.fault}")] if hints.fault else []
        say(self._console, labelled([*rows, *by_rank]))
        return hints


class _NoTerminal(io.TextIOBase):
    """stderr, as a file that is no terminal: there the runner draws no progress bar, which would run through the lines."""

    def __init__(self) -> None:
        self._stderr = sys.stderr

    def write(self, text: str) -> int:
        return self._stderr.write(text)
