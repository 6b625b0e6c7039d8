"""A program for `stages.training.launch`: trains the runs that a JSON file lists, one after the other.

python -m launched RUNS.json

A run has base, examples, recipe, out and exact: true trains all in fp32, where nothing is rounded that could hide a difference. `out`
gets the adapter and curve.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from trl.trainer import sft_config
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer  # noqa: F401  (before its config is replaced)

from stages.core.sections import Training
from stages.models.conversation import Encoded
from stages.training import trainer
from stages.training.launch import is_first, work
from stages.training.pairs import Pair

SEED = 1


def run(job: dict[str, Any]) -> list[dict[str, float]]:
    out = Path(job["out"])
    base, how = Path(job["base"]), Training(**job["recipe"])
    with pytest.MonkeyPatch.context() as patch:
        if job["exact"]:
            in_fp32(patch)
        if job["paired"]:
            curve, kl = trainer.distil(base, [Pair(*ids) for ids in job["examples"]], how, SEED, out, "reverse", None)
        else:
            curve, kl = trainer.train(base, [Encoded(*ids) for ids in job["examples"]], how, SEED, out), None
    if is_first():
        (out / "kl.json").write_text(json.dumps(kl))
        (out / "curve.json").write_text(json.dumps(curve))
    return curve


class Fp32Config(SFTConfig):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "bf16": False})


def in_fp32(patch: pytest.MonkeyPatch) -> None:
    load = trainer._load

    def load_fp32(base: Path, quantize: str) -> tuple[Any, Any]:
        model, tokenizer = load(base, quantize)
        return model.float(), tokenizer

    patch.setattr(sft_config, "SFTConfig", Fp32Config)
    patch.setattr(trainer, "_load", load_fp32)


def main() -> None:
    for job in json.loads(Path(sys.argv[1]).read_text()):
        run(job)


if __name__ == "__main__":
    work(main)
