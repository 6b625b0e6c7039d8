"""Training tokens a second, and how near they come to the machine's matrix products.

    python benchmarks/training.py [--conversations 40]

LoRA by the students' recipe for ALFWorld (params.yaml) on conversations of data/demos, of a lesson's length. Trains on a few of them, then on
those and as many more as asked for: the difference in time is what these cost, without loading and warming up. FLOPs, of tokens T of which S
are supervised: 4 x body x T (forward, and backward for the activations; the frozen weights have no gradients) + 6 x adapter x T
+ 4 x head x S + 3 x attention; padding counts as waste.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import base_model, config_of, number_format, record, show
from flops import Decoder, training
from limits import limits

from stages.core.params import load
from stages.core.records import Demo, read
from stages.core.sections import Training
from stages.models.chat import open_chat
from stages.models.conversation import IGNORED, Encoded, examples
from stages.training.trainer import train

DEMOS = Path("data/demos/alfworld/react.parquet")
FIRST = 4  # conversations, two steps


def conversations(base: Path, number: int, max_tokens: int) -> list[Encoded]:
    """Demonstrations evenly over the file, those that are too long left out."""
    if not DEMOS.is_file():
        raise SystemExit(f"{DEMOS}: no such file; run `dvc repro demos`, then this again")
    chat, demos = open_chat(base), read(DEMOS, Demo)
    taken = [demos[k * len(demos) // number] for k in range(number)]
    encoded = [example for demo in taken for example in examples(chat, demo.messages)]
    return [example for example in encoded if len(example.input_ids) <= max_tokens]


def measure(
    base: Path, examples: Sequence[Encoded], recipe: Training, dtype: torch.dtype, first: int = FIRST
) -> dict[str, Any]:
    """The section `train`: the cost of one epoch over the examples after the first ones, against matrix products in this number format."""
    once = recipe.model_copy(update={"epochs": 1})
    decoder, timed = Decoder.of(config_of(base)), examples[first:]
    duration(base, examples[:first], once)  # imports, and whatever is compiled at first use
    seconds = duration(base, examples, once) - duration(base, examples[:first], once)
    machine = limits(decoder, dtype)
    sizes = [(len(e.input_ids), sum(label != IGNORED for label in e.labels)) for e in timed]
    tokens, work = sum(size for size, _ in sizes), training(decoder, recipe.lora.r, sizes)
    return {
        "share_of_gemm": work / seconds / 1e9 / machine["gemm_gflops"],
        "tokens_per_second": tokens / seconds,
        "gflops": work / seconds / 1e9,
        "conversations": len(timed),
        "tokens": tokens,
        "supervised_tokens": sum(supervised for _, supervised in sizes),
        "seconds": seconds,
        **machine,
    }


def duration(base: Path, examples: Sequence[Encoded], recipe: Training) -> float:
    """Seconds of a training run."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        train(base, examples, recipe, 0, Path(folder) / "adapter")
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks/training.py")
    parser.add_argument("--conversations", type=int, default=40)
    args = parser.parse_args()
    base, settings = base_model(), load()
    recipe, dtype = settings.students["alfworld"], number_format(settings.engine)
    facts = measure(base, conversations(base, FIRST + args.conversations, recipe.max_tokens), recipe, dtype)
    show("Training", [{"figure": key, "value": value} for key, value in facts.items()])
    record({"train": facts}, {"recipe": recipe.model_dump()})


if __name__ == "__main__":
    main()
