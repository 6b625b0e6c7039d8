"""The least time that a study's operations take: what the last `dvc repro` played and trained, at the speed of this machine's matrix products.

    python benchmarks/study.py

Only what no engine can leave out counts: the replies, what prompts gained after an episode's first turn (episodes share most of the first prompt,
which is left out), and training. Beside it stand the minutes that playing took (data/timing/; training's are not kept). Writes
benchmarks/study.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import base_model, config_of, number_format, record, show
from flops import Decoder, training
from limits import products

from stages.core.params import Cell, Settings, load
from stages.core.records import Episode, Lesson, read

DATA = Path("data")
OUT = Path(__file__).with_suffix(".json")


def played(decoder: Decoder, episodes: Iterable[Episode]) -> int:
    """FLOPs of the replies and of what prompts gained after the first turn. A reply's last token is encoded with the next prompt, if at all."""
    flops = 0
    for episode in episodes:
        for number, turn in enumerate(episode.turns):
            first = turn.prompt_tokens - (turn.computed_tokens if number else 0)
            encoded = turn.prompt_tokens - first + max(0, turn.reply_tokens - 1)
            flops += (
                2 * decoder.body * encoded + decoder.attention(first, encoded) + 2 * decoder.head * turn.reply_tokens
            )
    return flops


def trained(decoder: Decoder, settings: Settings, cell: Cell) -> int:
    """FLOPs of all students of a cell, one for each arm and seed."""
    recipe, seeds = settings.students[cell.env], len(settings.axes.seed)
    lessons = [read(path, Lesson) for path in sorted(DATA.glob(f"lessons/{cell}_*/lessons.parquet"))]
    once = sum(training(decoder, recipe.lora.r, [(x.tokens, x.trained_tokens) for x in arm]) for arm in lessons)
    return once * recipe.epochs * seeds


def measure(decoder: Decoder, settings: Settings, gemm_gflops: float) -> dict[str, Any]:
    """The section `study`: a row for each cell's playing and training. Ends the program where nothing was played."""
    rows = []
    for cell in settings.axes.cells:
        folders = [
            DATA / "rollouts" / cell,
            *sorted(DATA.glob(f"teacher/{cell}/*")),
            *sorted(DATA.glob(f"evals/{cell}_*")),
        ]
        tables = [read(path, Episode) for folder in folders for path in sorted(folder.glob("*.parquet"))]
        if not tables:
            raise SystemExit(f"{folders[0]}: nothing was played; run `dvc repro`, then this again")
        timings = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(DATA.glob(f"timing/*_{cell}*.json"))]
        work = {"playing": sum(played(decoder, table) for table in tables)}
        work["training"] = trained(decoder, settings, cell)
        took = {"playing": sum(timing["seconds"] for timing in timings) / 60, "training": None}
        rows += [
            {
                "cell": cell,
                "part": part,
                "tflop": flops / 1e12,
                "minutes_at_limit": flops / gemm_gflops / 6e10,
                "minutes_taken": took[part],
            }
            for part, flops in work.items()
        ]
    return {
        "rows": rows,
        "minutes_at_limit": sum(row["minutes_at_limit"] for row in rows),
        "gemm_gflops": gemm_gflops,
    }


def main() -> None:
    settings, decoder = load(), Decoder.of(config_of(base_model()))
    dtype = number_format(settings.engine)
    facts = measure(decoder, settings, max(products(decoder, dtype).values()))
    show("The study's operations at the speed of matrix products", facts["rows"])
    print(f"{facts['minutes_at_limit']:.1f} min in all, at {facts['gemm_gflops']:.0f} GFLOP/s")
    record({"study": facts}, {"dtype": str(dtype).removeprefix("torch.")}, OUT)


if __name__ == "__main__":
    main()
