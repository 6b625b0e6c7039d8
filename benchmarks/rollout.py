"""Episodes a minute: our engine, the sequential baseline and servers on the same tasks.

    python benchmarks/rollout.py [--tasks 32] [--baseline-tasks 32] [--server transformers llama.cpp URL ...]

ReAct with the base model on games of ALFWorld's train panel, evenly drawn, under the limits of params.yaml. The contenders play one after the
other, each in a process of its own: `sequential` (benchmarks/sequential.py), the engine that params.yaml names, and one more for each
OpenAI-compatible server: one that is started here (candidates/servers.py), or one that serves the base model elsewhere. Loading and a warm-up
(a few short episodes of the dev panel, for whatever is compiled at first use) are not in the time. Greedy replies differ between engines by
rounding alone, so successes and turns may differ a little.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from candidates import servers
from common import alone, base_model, number_format, peak_memory_mb, record, show

from stages.agents import get
from stages.core.params import Cell, Settings, load
from stages.core.records import Episode
from stages.engines.base import Engine
from stages.envs.base import Environment, Task
from stages.envs.panel import load_panel
from stages.envs.registry import make
from stages.retrieval.retriever import Retriever
from stages.runner.episodes import Play, play_tasks
from stages.runner.journal import Journal
from stages.runner.study import model_id, open_engine

CELL = Cell("alfworld_react")
PANELS = Path("data/panels") / CELL.env
SEQUENTIAL = "sequential"
WARMUP_TASKS, WARMUP_TURNS = 2, 3
PATIENCE = 1800.0  # seconds a server may take for a reply: slow ones are to be measured, too


def drawn(panel: str, number: int) -> list[Task]:
    """`number` tasks of a panel, evenly over its whole length; where it has fewer, it is repeated under fresh task ids."""
    tasks, _ = load_panel(PANELS, panel)
    if number <= len(tasks):
        return [tasks[k * len(tasks) // number] for k in range(number)]
    repeated = [tasks[k % len(tasks)] for k in range(number)]
    return [replace(task, task_id=f"{task.task_id}-{k}") for k, task in enumerate(repeated)]


def contender(name: str, settings: Settings) -> tuple[Engine, Callable[[], Environment]]:
    """An engine and what makes its environments. `name`: `sequential`, the engine's kind, or a server's address."""
    engine = settings.engine
    if name == SEQUENTIAL:
        from sequential import SequentialEngine, StockEnvironment

        limits = {
            "context": engine.context,
            "max_new_tokens": engine.max_new_tokens,
            "stop": get(CELL.agent, CELL.env).stop,
        }
        turns = settings.runner.max_turns[CELL.env]
        return SequentialEngine(base_model(), dtype=number_format(engine), **limits), lambda: StockEnvironment(
            PANELS, turns
        )
    if name != engine.kind:
        server = engine.server.model_copy(update={"url": name, "timeout": PATIENCE})
        settings = settings.model_copy(
            update={"engine": engine.model_copy(update={"kind": "server", "server": server})}
        )
    return open_engine(settings, CELL, None), lambda: make(CELL.env, PANELS)


def play(name: str, settings: Settings, tasks: Sequence[Task], warmup: Sequence[Task]) -> dict[str, Any]:
    """One contender's figures; to be run in a process of its own."""
    start = time.perf_counter()
    engine, make_env = contender(name, settings)
    loaded = time.perf_counter() - start
    _episodes(engine, make_env, settings, warmup, WARMUP_TURNS)
    start = time.perf_counter()
    episodes = _episodes(engine, make_env, settings, tasks, settings.runner.max_turns[CELL.env])
    return figures(episodes, time.perf_counter() - start) | {
        "load_seconds": loaded,
        "peak_memory_mb": peak_memory_mb(),
        "engine": engine.name,
    }


def measure(name: str, settings: Settings, tasks: Sequence[Task], warmup: Sequence[Task]) -> dict[str, Any]:
    """A contender's figures. A server's memory is its own where it is started here, and unknown elsewhere."""
    if name not in servers.KINDS:
        facts = alone(play, name, settings, tasks, warmup)
        return facts if name in (SEQUENTIAL, settings.engine.kind) else facts | {"peak_memory_mb": None}
    engine = settings.engine
    room = servers.Room(engine.slots, engine.context, torch.get_num_threads(), number_format(engine))
    with servers.started(name, base_model(), room) as running:
        facts = alone(play, running.url, settings, tasks, warmup)
        return facts | {"peak_memory_mb": peak_memory_mb(running.process.pid)}


def _episodes(
    engine: Engine, make_env: Callable[[], Environment], settings: Settings, tasks: Sequence[Task], max_turns: int
) -> list[Episode]:
    rules = Play(
        system="base",
        seed=0,
        panels={task.panel: "" for task in tasks},
        model=model_id(None),
        max_turns=max_turns,
        max_repeats=settings.runner.max_repeats,
        shots=settings.agent.shots[CELL.env],
        corrections=settings.agent.corrections,
    )
    no_hints = Retriever("", [], settings.hints.k, 0)
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder), {}, "") as journal:
        agent = get(CELL.agent, CELL.env)
        return play_tasks(tasks, rules, agent, engine, make_env, lambda task: task.category, no_hints, journal)


def figures(episodes: Sequence[Episode], seconds: float) -> dict[str, Any]:
    """What was done in these seconds. Computed tokens are those that were encoded and those that were written."""
    computed, written = sum(e.computed_tokens for e in episodes), sum(e.reply_tokens for e in episodes)
    return {
        "episodes": len(episodes),
        "seconds": seconds,
        "episodes_per_minute": 60 * len(episodes) / seconds,
        "reply_tokens_per_second": written / seconds,
        "computed_tokens_per_second": computed / seconds,
        "computed_tokens": computed,
        "successes": sum(e.success for e in episodes),
        "mean_turns": sum(e.steps for e in episodes) / len(episodes),
        "reply_tokens_per_turn": written / max(1, sum(e.steps for e in episodes)),
        "machine_failures": sum(bool(e.machine_failure) for e in episodes),
    }


def compared(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The section `rollout`: each contender with its speed-up over the baseline, and first that of our own engine."""
    pace = found[SEQUENTIAL]["episodes_per_minute"]
    engines = {name: {**facts, "speedup": facts["episodes_per_minute"] / pace} for name, facts in found.items()}
    ours = next(name for name in engines if name != SEQUENTIAL)
    return {"speedup_vs_sequential": engines[ours]["speedup"], "engines": engines}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks/rollout.py")
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument(
        "--baseline-tasks", type=int, help="fewer of them for the baseline, whose pace does not depend on their number"
    )
    parser.add_argument(
        "--server",
        metavar="SERVER",
        nargs="+",
        default=[],
        help=f"OpenAI-compatible servers: {', '.join(servers.KINDS)}, or the address of one that serves the base model",
    )
    args = parser.parse_args()
    base_model()
    for name in args.server:
        servers.check(name)
    settings = load()
    tasks, warmup = drawn("train", args.tasks), drawn("dev", WARMUP_TASKS)
    origin = {
        "tasks": len(tasks),
        "agent": CELL.agent,
        "engine": settings.engine.model_dump(),
        "max_turns": settings.runner.max_turns[CELL.env],
    }
    found = {SEQUENTIAL: measure(SEQUENTIAL, settings, drawn("train", args.baseline_tasks or args.tasks), warmup)}
    for name in (settings.engine.kind, *args.server):
        found[name] = measure(name, settings, tasks, warmup)
        facts = compared(found)
        record({"rollout": facts}, origin)  # at once: the next one may take an hour
    columns = ("episodes", "episodes_per_minute", "reply_tokens_per_second", "computed_tokens_per_second", "successes")
    columns += ("mean_turns", "reply_tokens_per_turn", "machine_failures", "load_seconds", "peak_memory_mb", "speedup")
    rows = facts["engines"].items()
    show(f"Rollouts of {len(tasks)} tasks", [{"engine": name} | {c: row[c] for c in columns} for name, row in rows])


if __name__ == "__main__":
    main()
