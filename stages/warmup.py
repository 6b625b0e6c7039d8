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
from stages.core.records import Demo, read
from stages.models.chat import encode
from stages.models.manifest import SOURCE, model_folder
from stages.training.trainer import train

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
    from transformers import AutoTokenizer

    source = model_folder(SOURCE)
    tokenizer = AutoTokenizer.from_pretrained(source)
    cells = map(Cell, settings.warmup.cells)
    demos = [demo for cell in cells for demo in read(DEMOS / cell.env / f"{cell.agent}.parquet", Demo)]
    encoded = [encode(tokenizer, demo.messages) for demo in demos]
    w = settings.warmup
    fitting = [e for e in encoded if len(e.input_ids) <= w.max_tokens]
    curve = train(source, fitting, w, w.seed, out)
    facts = {
        "schema_version": 1,
        "enabled": True,
        "demonstrations": len(fitting),
        "too_long": len(encoded) - len(fitting),
        "tokens": sum(len(e.input_ids) for e in fitting),
        "trained_tokens": sum(label != -100 for e in fitting for label in e.labels),
        "curve": curve,
    }
    (out / "warmup.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return f"{len(fitting)} demonstrations, {facts['tokens']} tokens, last loss {curve[-1]['loss']:.3f}"


if __name__ == "__main__":
    sys.exit(main())
