"""Whether cost is linear in the number of episodes, and memory flat.

    python benchmarks/scaling.py [--episodes 32 128 512] [--turns N]

The engine that params.yaml names plays ever more episodes (the train panel, repeated under fresh task ids), each number in a process of its
own. A run of few episodes spends much of its time on its narrow tail, when the last ones leave places empty, so the seconds an episode fall
at first. What is compared is the marginal cost, the seconds that one episode more takes: from the first number to the second, and from the
second to the third. Linear means that the two are equal.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

from common import alone, base_model, record, show
from rollout import CELL, WARMUP_TASKS, drawn, play

from stages.core.params import load


def marginal(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The section `scaling`: seconds an episode more costs between neighbouring runs, and the last of them over the first."""
    costs = [(b["seconds"] - a["seconds"]) / (b["episodes"] - a["episodes"]) for a, b in itertools.pairwise(runs)]
    return {
        "runs": runs,
        "marginal_seconds_per_episode": costs,
        "marginal_ratio": costs[-1] / costs[0],
        "mean_ratio": runs[-1]["seconds_per_episode"] / runs[0]["seconds_per_episode"],
        "memory_ratio": runs[-1]["peak_memory_mb"] / runs[0]["peak_memory_mb"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks/scaling.py")
    parser.add_argument("--episodes", type=int, nargs=3, default=[32, 128, 512])
    parser.add_argument("--turns", type=int, help="shorter episodes, for slow machines; as in params.yaml if left out")
    args = parser.parse_args()
    base_model()
    settings, warmup = load(), drawn("dev", WARMUP_TASKS)
    turns = args.turns or settings.runner.max_turns[CELL.env]
    runner = settings.runner.model_copy(update={"max_turns": {**settings.runner.max_turns, CELL.env: turns}})
    settings = settings.model_copy(update={"runner": runner})
    runs = []
    for number in args.episodes:
        facts = alone(play, settings.engine.kind, settings, drawn("train", number), warmup)
        runs.append({**facts, "seconds_per_episode": facts["seconds"] / facts["episodes"]})
    facts = marginal(runs)
    columns = (
        "episodes",
        "seconds",
        "seconds_per_episode",
        "computed_tokens_per_second",
        "peak_memory_mb",
        "successes",
    )
    show("Scaling", [{column: run[column] for column in columns} for run in runs])
    show("Marginal cost", [{"seconds an episode more": cost} for cost in facts["marginal_seconds_per_episode"]])
    show("Last over first", [{name: facts[name] for name in ("marginal_ratio", "mean_ratio", "memory_ratio")}])
    record({"scaling": facts}, {"agent": CELL.agent, "engine": settings.engine.model_dump(), "max_turns": turns})


if __name__ == "__main__":
    main()
