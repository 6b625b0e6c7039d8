"""What a busy neighbour costs: games of the embedded engine, alone and beside a process that takes a core, by how long threads spin.

    python benchmarks/neighbour.py [--episodes 12] [--repeats 2]

OpenMP's threads spin while they wait for each other. GNU's library, which torch brings along, reads how long when it is loaded: from
GOMP_SPINCOUNT (300,000 if nothing is said), or never where OMP_WAIT_POLICY is PASSIVE. Each way plays the same games in a process of its own.
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

from stages.core.params import load

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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks/neighbour.py")
    parser.add_argument("--episodes", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    base_model()
    settings, tasks, warmup = load(), drawn("train", args.episodes), drawn("dev", WARMUP_TASKS)
    seconds: dict[str, dict[str, list[float]]] = {way: {"alone": [], "neighbour": []} for way in WAYS}
    for _ in range(args.repeats):  # ways take turns, so that a slow minute of the machine meets them all
        for way, variables in WAYS.items():
            for case in ("alone", "neighbour"):
                with waiting(variables), neighbour(case == "neighbour"):
                    facts = alone(play, settings.engine.kind, settings, tasks, warmup)
                seconds[way][case].append(facts["seconds"])
    rows: list[dict[str, Any]] = [
        {"spin count": way, **{f"{case}, s": statistics.median(found) for case, found in by_case.items()}}
        for way, by_case in seconds.items()
    ]
    show("Seconds for the games, the median", rows)
    record({"neighbour": {"seconds": seconds}}, {"agent": CELL.agent, "episodes": args.episodes})


if __name__ == "__main__":
    main()
