"""The `evaluate` stage: one system plays the measured panels, every task exactly once -> data/evals/<env>_<agent>_<system>/.

    python -m stages.evaluate --env alfworld --agent react --system base
    python -m stages.evaluate --env alfworld --agent react --system distilled --seed 0

Systems: `base`; `rag` (base with hints), `constant` and `random` (its controls); a student by its arm and seed, whose folder
ends in `_<arm>_s<seed>`.
"""

from __future__ import annotations

import argparse
import sys

from stages.core.params import load
from stages.core.process import die_with_parent
from stages.runner.study import DATA, FAULTS, Runner, StudyError, System

RETRIEVAL = ("rag", "constant", "random")
STUDENTS = ("sft", "distilled")
SYSTEMS = ("base", *RETRIEVAL, *STUDENTS)


def main() -> int:
    """Run the stage; 1 and one line on stderr when something it needs is missing or broken."""
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description="Play the measured panels.")
    parser.add_argument("--env", required=True)
    parser.add_argument("--agent", required=True)
    parser.add_argument("--system", required=True, choices=SYSTEMS)
    parser.add_argument("--seed", type=int, default=0, help="the student's training seed")
    args = parser.parse_args()
    die_with_parent()
    try:
        print(f"evaluate: {run(args.env, args.agent, args.system, args.seed)}")
    except FAULTS as fault:
        print(f"evaluate: {fault}", file=sys.stderr)
        return 1
    return 0


def run(env: str, agent: str, name: str, seed: int) -> str:
    """Play every measured panel, write, and say what came of it."""
    settings = load()
    folder = _folder(env, agent, name, seed)
    runner = Runner(settings, env, agent, system_of(env, agent, name, seed))
    runs, facts = runner.play(*settings.evaluate.of(env))
    runner.write(DATA / "evals" / folder, "evaluate", runs, facts)
    results = ", ".join(f"{panel} {sum(e.success for e in run)}/{len(run)}" for panel, run in runs.items())
    return f"{folder}: {results} in {facts['seconds']} s"


def system_of(env: str, agent: str, name: str, seed: int) -> System:
    """The system of that name; `seed` counts for a student. Raises `StudyError` for a name that is no system's."""
    if name not in SYSTEMS:
        raise StudyError(f"there is no system {name!r}, only {', '.join(SYSTEMS)}")
    if name in STUDENTS:
        return System(name, adapter=DATA / "students" / _folder(env, agent, name, seed) / "adapter", seed=seed)
    return System(name, retrieval=name if name in RETRIEVAL else "")


def _folder(env: str, agent: str, name: str, seed: int) -> str:
    return f"{env}_{agent}_{name}" + (f"_s{seed}" if name in STUDENTS else "")


if __name__ == "__main__":
    sys.exit(main())
