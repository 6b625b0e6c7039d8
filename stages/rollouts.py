"""The `rollouts` stage: the base agent plays the train panel -> data/rollouts/<cell>/episodes.parquet.

python -m stages.rollouts --cell alfworld_react
"""

from __future__ import annotations

import sys

from stages.core.process import run_stage
from stages.runner.study import System, play_train


def main() -> int:
    """Run the stage; 1 and one line on stderr when something it needs is missing or broken."""
    return run_stage("rollouts", "the base agent plays the train panel", run, "cell")


def run(cell: str) -> str:
    """Play, write, and say what came of it."""
    return play_train(cell, "rollouts", System("base"))


if __name__ == "__main__":
    sys.exit(main())
