"""The `teacher` stage: the same agent plays the train panel again, with hints retrieved once at the start of each episode
-> data/teacher/<cell>/episodes.parquet.

    python -m stages.teacher --cell alfworld_react
"""

from __future__ import annotations

import sys

from stages.core.process import run_stage
from stages.runner.study import System, play_train


def main() -> int:
    """Run the stage; 1 and one line on stderr when something it needs is missing or broken."""
    return run_stage("teacher", "the same agent plays the train panel with hints", run, "cell")


def run(cell: str) -> str:
    """Play, write, and say what came of it."""
    return play_train(cell, "teacher", System("rag", retrieval="rag"))


if __name__ == "__main__":
    sys.exit(main())
