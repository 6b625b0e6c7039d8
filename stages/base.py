"""The `base` stage: the pretrained model with the warm-up adapter merged in -> data/base/model/, the agent everyone starts from.

python -m stages.base
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from stages.core.files import replacing
from stages.core.process import run_stage
from stages.models.chat import template_of
from stages.training.trainer import TrainingError, merge

SOURCE = Path("data/base/source")
IDENTITY = Path("data/base/source.json")
WARMUP = Path("data/base/warmup")
OUT = Path("data/base/model")


def main() -> int:
    """Run the stage; 1 and one line on stderr when its inputs are unusable."""
    return run_stage("base", "merges the warm-up adapter into the model", run)


def run() -> str:
    """Merge, write what identifies the weights, and say it."""
    with replacing(OUT) as fresh:
        digest = merge(SOURCE, WARMUP if (WARMUP / "adapter_config.json").is_file() else None, fresh)
        source, template = _source(), template_of(IDENTITY)
        identity = {"schema_version": 1, "source": source, "weights_sha256": digest}
        identity |= {"template": template} if template else {}
        (fresh / "identity.json").write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
    return f"{source}@{digest[:12]}"


def _source() -> str:
    try:
        return str(json.loads(IDENTITY.read_text(encoding="utf-8"))["source"])
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(f"{IDENTITY}: not readable ({error!r}); run `dvc repro source`") from error


if __name__ == "__main__":
    sys.exit(main())
