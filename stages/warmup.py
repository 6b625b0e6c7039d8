"""The `warmup` stage: demonstrations -> data/base/warmup/, a LoRA adapter that knows the agent's format.

    python -m stages.warmup

The adapter is small (10 MB) and committed to git, so that a fresh clone trains it again only when something it depends on has
changed. It depends on the pretrained model through data/base/source.json, its content hash.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from stages.core.files import replacing
from stages.core.params import Cell, Settings, load
from stages.core.process import run_stage
from stages.core.records import HINT_WRITING, Demo, read
from stages.models.chat import open_chat
from stages.models.conversation import IGNORED, examples
from stages.models.manifest import SOURCE, model_folder
from stages.training.trainer import train

IDENTITY = Path("data/base/source.json")
DEMOS = Path("data/demos")
OUT = Path("data/base/warmup")


def main() -> int:
    """Run the stage; 1 and one line on stderr when its inputs are unusable."""
    return run_stage("warmup", "teaches the model the agents' format", run)


def run() -> str:
    """Train the adapter and say what it was trained on."""
    settings = load()
    with replacing(OUT) as fresh:
        return warm_up(settings, fresh)


def warm_up(settings: Settings, out: Path) -> str:
    """Train on all demonstrations that fit; `out` gets the adapter, its curve and what was trained on. Without warm-up it holds
    only the note that there is none."""
    if not settings.warmup.enabled:
        (out / "warmup.json").write_text('{"schema_version": 1, "enabled": false}\n', encoding="utf-8")
        return "off"
    chat = open_chat(SOURCE, IDENTITY)
    cells = [*map(Cell, settings.warmup.cells)]
    tables = [f"{cell.env}/{cell.agent}" for cell in cells]
    tables += [
        f"{env}/{HINT_WRITING}" for env in dict.fromkeys(cell.env for cell in cells) if settings.warmup.writing[env]
    ]
    demos = [demo for table in tables for demo in read(DEMOS / f"{table}.parquet", Demo)]
    encoded = [examples(chat, demo.messages) for demo in demos]
    w = settings.warmup
    fitting = [taught for taught in encoded if all(len(example.input_ids) <= w.max_tokens for example in taught)]
    lessons = [example for taught in fitting for example in taught]
    curve = train(model_folder(SOURCE), lessons, w, w.seed, out)
    facts = {
        "schema_version": 1,
        "enabled": True,
        "demonstrations": len(fitting),
        "too_long": len(encoded) - len(fitting),
        "tokens": sum(len(example.input_ids) for example in lessons),
        "trained_tokens": sum(label != IGNORED for example in lessons for label in example.labels),
        "curve": curve,
    }
    (out / "warmup.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return f"{len(fitting)} demonstrations, {facts['tokens']} tokens, last loss {curve[-1]['loss']:.3f}"


if __name__ == "__main__":
    sys.exit(main())
