"""The `evaluate` stages: one system plays the measured panels, every task exactly once -> data/evals/<cell>_<system>/.

    python -m stages.evaluate --cell alfworld_react --system base
    python -m stages.evaluate --cell alfworld_react --system distilled --seed 0

Systems: `base`; `rag` (base with hints), `constant` and `random` (its controls); a student by its arm and seed, whose folder
ends in `_<arm>_s<seed>`.
"""

from __future__ import annotations

import sys
from typing import get_args

from stages.core.params import Arm, Retrieval, load
from stages.core.process import run_stage
from stages.runner.study import DATA, Runner, StudyError, System

RETRIEVAL: tuple[str, ...] = get_args(Retrieval)
STUDENTS: tuple[str, ...] = get_args(Arm)
SYSTEMS = ("base", *RETRIEVAL, *STUDENTS)


def main() -> int:
    """Run the stage; 1 and one line on stderr when something it needs is missing or broken."""
    return run_stage("evaluate", "a system plays the measured panels", run, "cell", "system", "seed")


def run(cell: str, system: str, seed: int) -> str:
    """Play every measured panel, write, and say what came of it."""
    settings = load()
    cell = settings.cell(cell)
    folder = _folder(cell, system, seed)
    runner = Runner(settings, cell, system_of(cell, system, seed))
    runs, facts = runner.play(*settings.measured(cell.env))
    runner.write(DATA / "evals" / folder, "evaluate", runs, facts)
    results = ", ".join(f"{panel} {sum(e.success for e in run)}/{len(run)}" for panel, run in runs.items())
    return f"{folder}: {results} in {facts['seconds']} s"


def system_of(cell: str, name: str, seed: int) -> System:
    """The system of that name; `seed` counts for a student. Raises `StudyError` for a name that is no system's."""
    if name not in SYSTEMS:
        raise StudyError(f"there is no system {name!r}, only {', '.join(SYSTEMS)}")
    if name in STUDENTS:
        return System(name, adapter=DATA / "students" / _folder(cell, name, seed) / "adapter", seed=seed)
    return System(name, retrieval=name if name in RETRIEVAL else "")


def _folder(cell: str, name: str, seed: int) -> str:
    return f"{cell}_{name}" + (f"_s{seed}" if name in STUDENTS else "")


if __name__ == "__main__":
    sys.exit(main())
