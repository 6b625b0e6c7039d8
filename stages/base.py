"""The `base` stage: the pretrained model with the warm-up adapter merged in -> data/base/model/, the agent everyone starts from.

python -m stages.base
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from stages.core.files import replacing
from stages.training.trainer import TrainingError, merge

SOURCE = Path("data/base/source")
IDENTITY = Path("data/base/source.json")
WARMUP = Path("data/base/warmup")
OUT = Path("data/base/model")


def main() -> int:
    """Run the stage; 1 and one line on stderr when its inputs are unusable."""
    try:
        with replacing(OUT) as fresh:
            digest = merge(SOURCE, WARMUP if (WARMUP / "adapter_config.json").is_file() else None, fresh)
            source = json.loads(IDENTITY.read_text(encoding="utf-8"))["source"]
            identity = {"schema_version": 1, "source": source, "weights_sha256": digest}
            (fresh / "identity.json").write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
    except (OSError, TrainingError) as error:
        print(f"base: {error}", file=sys.stderr)
        return 1
    print(f"base: {source}@{digest[:12]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
