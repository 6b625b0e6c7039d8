"""Made-up episodes: ladders to climb, an engine that answers at once, and a run of them.

Run as a script (`python tests/ladder.py FOLDER TASKS SECONDS`), it plays episodes with a journal in FOLDER, for the test that
kills it.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stages.agents import get
from stages.core.records import Episode, Message
from stages.engines.base import Reply
from stages.envs.base import EnvironmentFault, Observation, Task
from stages.retrieval.retriever import Chooser, Retriever
from stages.runner.episodes import Play, play_tasks
from stages.runner.journal import Journal

PLAY = Play(
    system="base", seed=3, panels={"train": "f" * 64}, model="m", max_turns=6, max_repeats=3, shots=0, corrections=0
)
AGENT = get("react", "alfworld")
IDENTITY: dict[str, Any] = {"play": vars(PLAY), "k": 3}
CODE = "c" * 64
NO_HINTS = Retriever("", [], 0, 0)


def own_category(task: Task) -> str:
    return task.category


def count(text: str) -> int:
    return len(text.split())


def note(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(f"{line}\n")


class FakeEngine:
    """Answers the newest submission first, one a poll. `answer` makes a reply of the conversation so far."""

    name = "fake"

    def __init__(self, answer: Callable[[Sequence[Message]], str], slots: int = 3, window: int = 10**6) -> None:
        self.answer, self.slots, self.window = answer, slots, window
        self.open_sessions: set[int] = set()
        self.opened = 0
        self.most = 0
        self.waiting: list[tuple[int, list[Message]]] = []
        self.prompts: list[list[Message]] = []
        self.seeds: list[int] = []

    def open(self, seed: int) -> int:
        self.opened += 1
        self.seeds.append(seed)
        self.open_sessions.add(self.opened)
        self.most = max(self.most, len(self.open_sessions))
        assert len(self.open_sessions) <= self.slots
        return self.opened

    def submit(self, session: int, messages: Sequence[Message]) -> None:
        assert session in self.open_sessions
        self.waiting.append((session, list(messages)))
        self.prompts.append(list(messages))

    def poll(self) -> list[Reply]:
        session, messages = self.waiting.pop()
        prompt = sum(count(m.content) for m in messages)
        if prompt > self.window:
            return [Reply(session, "", "context", prompt, 0, 0)]
        text = self.answer(messages)
        return [Reply(session, text, "stop", prompt, count(messages[-1].content), count(text))]

    def close(self, session: int) -> None:
        self.open_sessions.remove(session)


class Ladder:
    """A task of `spec["steps"]` steps: `up` climbs one, anything else is refused. Faults come as the spec says: `reset_faults`
    or `step_faults` times in all, counted over all environments in `broken`. `top` is a file that gets a line at every success."""

    def __init__(
        self, broken: Counter[str], log: Callable[[str], None], seconds: float = 0.0, top: Path | None = None
    ) -> None:
        self.broken, self.log, self.seconds, self.top = broken, log, seconds, top
        self.faulty = False

    def _break(self, what: str) -> None:
        if self.broken[self.task.task_id] < self.task.spec.get(what, 0):
            self.broken[self.task.task_id] += 1
            self.faulty = True
            raise EnvironmentFault(f"{self.task.task_id}: {what}")

    def reset(self, task: Task) -> Observation:
        assert not self.faulty, "a broken environment was used again"
        self.task, self.height = task, 0
        self.log(task.task_id)
        self._break("reset_faults")
        return self._show(f"A ladder. Your task is to: {task.goal}", True)

    def step(self, action: str) -> Observation:
        time.sleep(self.seconds)
        if self.height == 1:
            self._break("step_faults")
        valid = action == "up"
        self.height += valid
        return self._show(f"You stand on rung {self.height}." if valid else "Nothing happens.", valid)

    def _show(self, text: str, valid: bool) -> Observation:
        done = self.height == self.task.spec["steps"]
        if done and self.top:
            note(self.top, self.task.task_id)
        return Observation(
            text, (f"up from {self.height}", "look"), self.task.spec.get("reward", 1.0) * done, done, valid
        )


class World:
    """What a run is made of: environments that write down every reset, and how many of them there are."""

    def __init__(self) -> None:
        self.resets: list[str] = []
        self.broken: Counter[str] = Counter()
        self.made = 0

    def make(self) -> Ladder:
        self.made += 1
        return Ladder(self.broken, self.resets.append)


def task(number: int, steps: int = 2, panel: str = "train", **spec: Any) -> Task:
    category = "put" if number % 2 else "heat"
    return Task(f"t{number}", "alfworld", panel, category, f"climb {steps}", {"steps": steps, **spec})


def up(messages: Sequence[Message]) -> str:
    return AGENT.render(f"After {len(messages)} messages, I climb.", "up", {})


def play(
    folder: Path,
    tasks: Sequence[Task],
    world: World,
    engine: FakeEngine,
    retriever: Chooser = NO_HINTS,
    identity: dict[str, Any] = IDENTITY,
    settings: Play = PLAY,
) -> list[Episode]:
    with Journal(folder, identity, CODE) as journal:
        return play_tasks(tasks, settings, AGENT, engine, world.make, own_category, retriever, journal)


def _child(folder: Path, tasks: int, seconds: float) -> None:
    with Journal(folder, IDENTITY, CODE) as journal:
        made = [task(n) for n in range(tasks)]

        def make() -> Ladder:
            return Ladder(Counter(), lambda name: note(folder / "resets", name), seconds, folder / "tops")

        play_tasks(made, PLAY, AGENT, FakeEngine(up), make, own_category, NO_HINTS, journal)


if __name__ == "__main__":
    _child(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
