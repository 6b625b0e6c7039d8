"""The `evaluate` stages: one system plays the measured panels, every task exactly once -> data/evals/<cell>_<system>/.

    python -m stages.evaluate --cell alfworld_react --system base
    python -m stages.evaluate --cell alfworld_react --system distilled --seed 0

Systems, all named in `stages.core.arms`: `base`; `rag` (base with hints), its controls `constant`, `random` and `rag_wrong`, its upper bound `oracle`;
a student by its arm and seed, `<arm>_rag` where it is shown hints that it was taught to do without. A student's folder ends in `_s<seed>`.
"""

from __future__ import annotations

import sys

from stages.core.arms import STUDENTS, SYSTEMS
from stages.core.params import load
from stages.core.process import run_stage
from stages.runner.study import DATA, Runner, StudyError, System


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
    player = SYSTEMS[name]
    if not player.arm:
        return System(name, player.retrieval)
    return System(name, player.retrieval, DATA / "students" / _folder(cell, player.arm, seed) / "adapter", seed)


def _folder(cell: str, name: str, seed: int) -> str:
    return f"{cell}_{name}" + (f"_s{seed}" if name in STUDENTS else "")


if __name__ == "__main__":
    sys.exit(main())
