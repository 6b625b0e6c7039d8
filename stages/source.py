"""The `source` stage: the pretrained model -> data/base/source/ (bf16) and data/base/source.json (what identifies it).

    python -m stages.source

Later stages that must not be repeated for a mere difference of file layout depend on source.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from stages.core.files import atomic, replacing
from stages.core.params import SettingsError, load
from stages.pretrained.obtain import ModelError, obtain

OUT = Path("data/base/source")
IDENTITY = Path("data/base/source.json")
DOWNLOADS = Path(".cache/downloads")


def main() -> int:
    """Run the stage; 1 and one line on stderr when the model cannot be had."""
    try:
        settings = load()
        with replacing(OUT) as fresh:
            identity = obtain(settings.model.source, settings.model.revision, fresh, DOWNLOADS)
    except (SettingsError, ModelError) as error:
        print(f"source: {error}", file=sys.stderr)
        return 1
    with atomic(IDENTITY) as temporary:
        temporary.write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
    print(f"source: {identity['source']}, {identity['parameters'] / 1e6:.0f} M parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
