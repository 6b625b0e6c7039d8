"""ALFWorld behind the project's environment protocol."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from stages.envs.alfworld import CATEGORY
from stages.envs.alfworld.engine import REFUSAL, Engine, Frame
from stages.envs.base import EnvironmentFault, Observation, Task

__all__ = ["CATEGORY", "AlfworldEnvironment", "read_game"]

_BANNER = "-= Welcome to TextWorld, ALFRED! =-"


class AlfworldEnvironment:
    """Plays the games of one panel folder, one after the other; commands in the `move X to Y` grammar.

    Observations are the engine's text without its banner: after a reset the room and the task, apart by an empty line.
    Make one for each place in a pool and keep it: each holds an engine of some 5 MB that is never given back.
    """

    def __init__(self, panel_root: Path, cache_dir: Path) -> None:
        """`panel_root` is the folder that tasks' game paths start from; `cache_dir` keeps translated games, and may be
        shared by any number of environments and processes."""
        self._root = panel_root
        self._engine = Engine(cache_dir)
        self._task_id: str | None = None

    def reset(self, task: Task) -> Observation:
        """Start `task.spec["game"]`; its content must have the hash `task.spec["sha256"]`."""
        self._task_id = None
        path = self._root / task.spec["game"]
        game = read_game(path, task.spec["sha256"])
        try:
            frame = self._engine.start(game)
        except Exception as error:
            raise EnvironmentFault(f"{path}: the game does not start ({type(error).__name__}: {error})") from error
        self._task_id = task.task_id
        return _observe(frame, frame.text.removeprefix(_BANNER).strip())

    def step(self, action: str) -> Observation:
        """Carry out one command. RuntimeError if there was no successful reset before."""
        if self._task_id is None:
            raise RuntimeError("no task is running: call reset() before step()")
        try:
            frame = self._engine.step(action)
        except Exception as error:
            raise EnvironmentFault(
                f"task {self._task_id}: the engine failed at {action!r} ({type(error).__name__}: {error})"
            ) from error
        return _observe(frame, frame.text)


def read_game(path: Path, sha256: str) -> dict[str, Any]:
    """A `game.tw-pddl`'s content. Raises EnvironmentFault if the file is missing or isn't the one that was hashed."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EnvironmentFault(
            f"{path}: the game can't be read ({error.strerror}). Build the panels again: dvc repro panels"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise EnvironmentFault(
            f"{path}: not the game the panel was made with: expected sha256 {sha256}, found {found}. "
            "Restore the file (dvc checkout) or build the panels again (dvc repro panels)"
        )
    try:
        game: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise EnvironmentFault(f"{path}: a game is a JSON file, and this is none ({error})") from error
    return game


def _observe(frame: Frame, text: str) -> Observation:
    return Observation(
        text=text, admissible=frame.admissible, reward=float(frame.won), done=frame.won, valid=frame.text != REFUSAL
    )
