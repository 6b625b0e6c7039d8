"""Games held against the real engine before a panel is frozen.

In processes of their own, as the engine exits on a broken task. Checking leaves the games' translations in the cache.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from stages.envs.alfworld.engine import Engine
from stages.envs.base import EnvironmentFault

_SHOWN_FAULTS = 5

Result = TypeVar("Result")


def win_games(paths: Sequence[Path], cache_dir: Path, workers: int) -> None:
    """Win every game by its walkthrough: proof that the engine loads it and that its goal can be reached.

    Raises EnvironmentFault at the first failure.
    """
    _each(_win, paths, cache_dir, workers)


def start_games(paths: Sequence[Path], cache_dir: Path, workers: int) -> None:
    """Start every game: proof that the engine loads it and that something is left to do.

    Raises EnvironmentFault with the number of games that fail and the first of them.
    """
    faults = [fault for fault in _each(_start, paths, cache_dir, workers) if fault]
    if faults:
        lines = [f"\n  {fault}" for fault in faults[:_SHOWN_FAULTS]]
        more = f"\n  and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
        raise EnvironmentFault(f"{len(faults)} of {len(paths)} games can't be played{''.join(lines)}{more}")


def _each(check: Callable[[Path], Result], paths: Sequence[Path], cache_dir: Path, workers: int) -> list[Result]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_open_engine, initargs=(cache_dir,))
    try:
        results = pool.map(check, paths, chunksize=4)
        return list(tqdm(results, total=len(paths), desc="games checked", unit="game", disable=None))
    except BrokenProcessPool as error:
        raise EnvironmentFault(f"a process that checks games died; {len(paths)} games were to be checked") from error
    finally:
        pool.shutdown(cancel_futures=True)


_engine: Engine | None = None  # of a checking process


def _open_engine(cache_dir: Path) -> None:
    global _engine
    _engine = Engine(cache_dir)


def _win(path: Path) -> None:
    assert _engine is not None
    game = json.loads(path.read_text(encoding="utf-8"))
    frame = _engine.start(game)
    if frame.won:
        raise EnvironmentFault(f"{path}: the game is won before it begins")
    for command in game["walkthrough"]:
        if command not in frame.admissible:
            raise EnvironmentFault(f"{path}: its walkthrough fails: {command!r} is not admissible after {frame.text!r}")
        frame = _engine.step(command)
    if not frame.won:
        raise EnvironmentFault(f"{path}: its walkthrough ends with {frame.text!r}, and the game is not won")


def _start(path: Path) -> str:
    """What is wrong with a game, or nothing."""
    assert _engine is not None
    try:
        frame = _engine.start(json.loads(path.read_text(encoding="utf-8")))
    except Exception as error:
        return f"{path}: the game does not start ({type(error).__name__}: {error})"
    return f"{path}: the game is won before it begins" if frame.won else ""
