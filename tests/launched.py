"""A program for `stages.training.launch`: trains the runs that a JSON file lists, one after the other.

python -m launched RUNS.json

Each run has base, examples, recipe, seed and out; out gets the adapter and curve.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from stages.chat import Encoded
from stages.params import Training
from stages.training.launch import is_first, work
from stages.training.trainer import train


def run(job: dict[str, Any]) -> None:
    out = Path(job["out"])
    examples = [Encoded(*example) for example in job["examples"]]
    curve = train(Path(job["base"]), examples, Training(**job["recipe"]), job["seed"], out)
    if is_first():
        (out / "curve.json").write_text(json.dumps(curve))


def main() -> None:
    for job in json.loads(Path(sys.argv[1]).read_text()):
        run(job)


if __name__ == "__main__":
    work(main)
