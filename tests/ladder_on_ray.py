"""Ladders that kill whoever climbs them, and a run of them on a Ray cluster.

Run as a script (`python tests/ladder_on_ray.py FOLDER TASKS SECONDS`), it is a driver, for the test that kills it.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import ladder
import ray
from ladder import AGENT, CODE, IDENTITY, NO_HINTS, PLAY, FakeEngine, Ladder, note, own_category, task, up

from stages.cluster.ray import Cast, play_on_ray
from stages.core.records import Episode
from stages.engines.base import Engine
from stages.envs.base import Observation, Task
from stages.runner.journal import Journal

# Workers cannot import these modules from where they run.
ray.cloudpickle.register_pickle_by_value(ladder)
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Trap(Ladder):
    """A ladder that kills the process that climbs it, as often as the task's spec says under `kills`; `folder` keeps count."""

    def __init__(self, folder: Path, seconds: float = 0.0) -> None:
        super().__init__(Counter(), functools.partial(note, folder / "resets"), seconds)
        self.folder = folder

    def step(self, action: str) -> Observation:
        note(self.folder / "pids", str(os.getpid()))
        kills = self.folder / f"kills_{self.task.task_id}"
        before = kills.read_text().count("\n") if kills.exists() else 0
        if self.height == 1 and before < self.task.spec.get("kills", 0):
            note(kills, "killed")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


def open_fake() -> Engine:
    return FakeEngine(up)


def play_there(
    folder: Path, tasks: list[Task], workers: int = 2, seconds: float = 0.0, **changes: Any
) -> list[Episode]:
    folder.mkdir(exist_ok=True)
    make_env = functools.partial(Trap, folder, seconds)
    cast = Cast(PLAY, AGENT, open_fake, make_env, own_category, NO_HINTS, folder)
    with Journal(folder, IDENTITY, CODE) as journal:
        return play_on_ray(tasks, dataclasses.replace(cast, **changes), journal, workers, gpus=0)


if __name__ == "__main__":
    play_there(Path(sys.argv[1]), [task(n) for n in range(int(sys.argv[2]))], seconds=float(sys.argv[3]))
