"""What a busy neighbour costs: games of the embedded engine and training, alone and beside a process that takes a core, by how long threads
spin.

    python benchmarks/neighbour.py [playing] [training] [--repeats 2] [--ways 1000 passive]

OpenMP's threads spin while they wait for each other. GNU's library, which torch brings along, reads how long when it is loaded: from
GOMP_SPINCOUNT (300,000 if nothing is said), or never where OMP_WAIT_POLICY is PASSIVE. Each way plays the same 12
games, or trains on the same 12 conversations, in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common import alone, base_model, record, show
from rollout import CELL, WARMUP_TASKS, drawn, play
from training import FIRST, conversations, duration

from stages.core.params import load
from stages.core.sections import Training
from stages.models.conversation import Encoded

NUMBER = 12  # games, or conversations
WAYS = {
    "library's own": {"GOMP_SPINCOUNT": "300000"},
    "10000": {"GOMP_SPINCOUNT": "10000"},
    "1000": {"GOMP_SPINCOUNT": "1000"},
    "100": {"GOMP_SPINCOUNT": "100"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
}


@contextmanager
def waiting(variables: dict[str, str]) -> Iterator[None]:
    """Processes started meanwhile have these of the variables that rule how threads wait, and no others."""
    kept = {name: os.environ.pop(name, None) for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """A process that computes without end, if wanted."""
    if not busy:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def played() -> float:
    """Seconds for the games, without loading."""
    settings = load()
    tasks, warmup = drawn("train", NUMBER), drawn("dev", WARMUP_TASKS)
    return float(alone(play, settings.engine.kind, settings, tasks, warmup)["seconds"])


def trained() -> float:
    """Seconds for one epoch over the conversations, without loading."""
    recipe = load().students[CELL.env].model_copy(update={"epochs": 1})
    examples = conversations(base_model(), FIRST + NUMBER, recipe.max_tokens)
    return float(alone(_epoch, examples, recipe))


def _epoch(examples: list[Encoded], recipe: Training) -> float:
    base = base_model()
    duration(base, examples[:FIRST], recipe)  # imports, and whatever is compiled at first use
    return duration(base, examples, recipe) - duration(base, examples[:FIRST], recipe)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks/neighbour.py")
    parser.add_argument("what", nargs="*", choices=["playing", "training"], default=["playing", "training"])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    args = parser.parse_args()
    base_model()
    for what in args.what:
        seconds: dict[str, dict[str, list[float]]] = {way: {"alone": [], "neighbour": []} for way in args.ways}
        for _ in range(args.repeats):  # ways take turns, so that a slow minute of the machine meets them all
            for way in args.ways:
                for case in ("alone", "neighbour"):
                    with waiting(WAYS[way]), neighbour(case == "neighbour"):
                        seconds[way][case].append(played() if what == "playing" else trained())
        rows: list[dict[str, Any]] = [
            {"spin count": way, **{f"{case}, s": statistics.median(found) for case, found in by_case.items()}}
            for way, by_case in seconds.items()
        ]
        show(f"Seconds of {what}, the median", rows)
        record({f"neighbour_{what}": {"seconds": seconds}}, {"cell": str(CELL), "number": NUMBER})


if __name__ == "__main__":
    main()
