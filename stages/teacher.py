"""The `teacher` stage: the same agent plays the train panel again, with hints chosen once at the start of each episode
-> data/teacher/<env>_<agent>/episodes.parquet.

    python -m stages.teacher --env alfworld --agent react
"""

from __future__ import annotations

import sys

from stages.core.params import load
from stages.runner.study import DATA, Runner, System, play_stage


def main() -> int:
    """Run the stage; 1 and one line on stderr when something it needs is missing or broken."""
    return play_stage("teacher", run)


def run(env: str, agent: str) -> str:
    """Play, write, and say what came of it."""
    runner = Runner(load(), env, agent, System("rag", retrieval="rag"))
    runs, facts = runner.play("train")
    runner.write(DATA / "teacher" / f"{env}_{agent}", "teacher", {"episodes": runs["train"]}, facts)
    return f"{facts['successes']} of {facts['episodes']} tasks solved in {facts['seconds']} s"


if __name__ == "__main__":
    sys.exit(main())
