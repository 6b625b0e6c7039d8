"""The `teacher` stage: the same agent plays the train panel again, with hints retrieved once at the start of each episode
-> data/teacher/<cell>/<retrieval>/episodes.parquet.

    python -m stages.teacher --cell alfworld_react --retrieval rag

A folder a cell, so that the lessons of any arm can depend on all of the cell's teachers.
"""

from __future__ import annotations

import sys

from stages.core.arms import SYSTEMS
from stages.core.process import run_stage
from stages.runner.study import StudyError, System, play_train


def main() -> int:
    """Run the stage; 1 and one line on stderr when something it needs is missing or broken."""
    return run_stage("teacher", "the same agent plays the train panel with hints", run, "cell", "retrieval")


def run(cell: str, retrieval: str) -> str:
    """Play, write, and say what came of it. Raises `StudyError` for a retrieval that there is none of."""
    ways = [player.retrieval for player in SYSTEMS.values() if player.retrieval and not player.arm]
    if retrieval not in ways:
        raise StudyError(f"there is no retrieval {retrieval!r}, only {', '.join(ways)}")
    return play_train(cell, "teacher", System(retrieval, retrieval=retrieval))


if __name__ == "__main__":
    sys.exit(main())
