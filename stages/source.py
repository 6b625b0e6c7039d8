"""The `source` stage: the pretrained model -> data/base/source/ (bf16) and data/base/source.json (what identifies it).

    python -m stages.source

Later stages that must not be repeated for a mere difference of file layout depend on source.json.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from stages import BARS, BARS_UNSAID
from stages.core.files import CACHE, atomic, replacing
from stages.core.params import load
from stages.core.process import run_stage
from stages.models.conversation import way
from stages.pretrained.obtain import obtain

OUT = Path("data/base/source")
IDENTITY = Path("data/base/source.json")
DOWNLOADS = CACHE / "downloads"


def main() -> int:
    """Run the stage; 1 and one line on stderr when the model cannot be had."""
    if BARS_UNSAID and os.isatty(2):
        os.environ[BARS] = "0"  # a download of many GB is worth one
    return run_stage("source", "obtains the pretrained model", run)


def run() -> str:
    """Obtain the model, write it and what identifies it, and say how large it is."""
    settings = load()
    with replacing(OUT) as fresh:
        model = settings.model
        identity, chat = obtain(model.source, model.revision, model.template, fresh, DOWNLOADS)
    with atomic(IDENTITY) as temporary:
        temporary.write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
    return f"{identity['source']}, {identity['parameters'] / 1e6:.0f} M parameters; {way(chat)}"


if __name__ == "__main__":
    sys.exit(main())
