"""ALFWorld's engine as released against ours: milliseconds to load, to reset and a step, on the same actions.

    python benchmarks/environment.py [--games 6]

Each plays each game's solution and then commands drawn from those offered, in a process of its own (ours makes textworld itself faster). What
they show must be the same, byte for byte. Ours begins a game in one go: `cold` translates it, as at the first time ever; `warm` finds it
translated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import alone, record, show
from rollout import PANELS, drawn

from stages.core.params import load
from stages.envs.base import Environment, Observation, Task

COMMANDS = 20  # after the solution


def stock(root: Path, tasks: Sequence[Task], commands: int) -> dict[str, Any]:
    """The released engine's figures; to be run in a process of its own."""
    from sequential import StockEnvironment

    env, loads, resets, steps, digest = StockEnvironment(root, 10**6), [], [], [], hashlib.sha256()
    for task in tasks:
        loads.append(_ms(lambda task=task: env.load(task))[0])
        ms, seen = _ms(env.begin)
        resets.append(ms)
        steps += _walk(env, root, task, seen, commands, digest)
    return {"load_ms": statistics.median(loads), "reset_ms": statistics.median(resets)} | _figures(steps, digest)


def ours(root: Path, tasks: Sequence[Task], commands: int) -> dict[str, Any]:
    """Our engine's figures; to be run in a process of its own."""
    from stages.envs.alfworld.environment import AlfworldEnvironment

    cold, warm, steps, digest = [], [], [], hashlib.sha256()
    with tempfile.TemporaryDirectory() as cache:
        env = AlfworldEnvironment(root, Path(cache))
        for task in tasks:
            cold.append(_ms(lambda task=task: env.reset(task))[0])
            ms, seen = _ms(lambda task=task: env.reset(task))
            warm.append(ms)
            steps += _walk(env, root, task, seen, commands, digest)
    return {"cold_reset_ms": statistics.median(cold), "reset_ms": statistics.median(warm)} | _figures(steps, digest)


def _walk(env: Environment, root: Path, task: Task, seen: Observation, commands: int, digest: Any) -> list[float]:
    """Milliseconds of each step; what was shown goes to the digest."""
    draw, times = random.Random(task.task_id), []
    plan = json.loads((root / task.spec["game"]).read_text(encoding="utf-8"))["walkthrough"]
    for k in range(len(plan) + commands):
        digest.update(repr((seen.text, sorted(seen.admissible), seen.done)).encode())
        action = plan[k] if k < len(plan) else draw.choice(sorted(seen.admissible))
        ms, seen = _ms(lambda action=action: env.step(action))
        times.append(ms)
    digest.update(repr((seen.text, sorted(seen.admissible), seen.done)).encode())
    return times


def _ms(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return 1000 * (time.perf_counter() - start), result


def _figures(steps: list[float], digest: Any) -> dict[str, Any]:
    return {
        "step_ms": statistics.median(steps),
        "steps_per_second": 1000 * len(steps) / sum(steps),
        "shown_sha256": digest.hexdigest(),
    }


def measure(root: Path, tasks: Sequence[Task], commands: int = COMMANDS) -> dict[str, Any]:
    """The section `env`. Raises `RuntimeError` when the two did not show the same."""
    found = {"stock": alone(stock, root, tasks, commands), "ours": alone(ours, root, tasks, commands)}
    if len({facts.pop("shown_sha256") for facts in found.values()}) > 1:
        raise RuntimeError("the two engines showed different things: their times cannot be compared")
    return {"speedup": found["ours"]["steps_per_second"] / found["stock"]["steps_per_second"], **found}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks/environment.py")
    parser.add_argument("--games", type=int, default=6)
    args = parser.parse_args()
    facts = measure(PANELS, drawn("train", args.games))
    for name in ("stock", "ours"):
        show(f"ALFWorld, {name}", [facts[name]])
    show("Steps a second", [{"ours over stock": facts["speedup"]}])
    record({"env": facts}, {"games": args.games, "commands": COMMANDS, "source": load().panels.alfworld.source})


if __name__ == "__main__":
    main()
