"""The `base` stage: the pretrained model with the warm-up adapter merged in -> data/base/model/, the agent everyone starts from.

    python -m stages.base

Without a warm-up the pretrained model is the base, and data/base/model/ holds its manifest alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from stages.core.files import replacing
from stages.core.process import run_stage
from stages.models.identity import template_of
from stages.models.manifest import BASE as OUT
from stages.models.manifest import SOURCE, Manifest, file_names, list_files, model_folder, read_manifest
from stages.training.trainer import TrainingError, merge

IDENTITY = Path("data/base/source.json")
WARMUP = Path("data/base/warmup")


def main() -> int:
    """Run the stage; 1 and one line on stderr when its inputs are unusable."""
    return run_stage("base", "makes the model that every system starts from", run)


def run() -> str:
    """Merge, or list the model's files where there is nothing to add, write what identifies the weights, and say it."""
    source = _source()
    with replacing(OUT) as fresh:
        if (WARMUP / "adapter_config.json").is_file():
            digest = merge(model_folder(SOURCE), WARMUP, fresh)
        else:
            digest = str(source["weights_sha256"])
            _manifest(str(source["source"])).write(fresh)
        template = template_of(IDENTITY)
        identity = {"schema_version": 1, "source": source["source"], "weights_sha256": digest}
        identity |= {"template": template} if template else {}
        (fresh / "identity.json").write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
    return f"{source['source']}@{digest[:12]}"


def _manifest(model: str) -> Manifest:
    """Of the source, or of the files that it holds itself."""
    return read_manifest(SOURCE) or list_files(model, "data/base/source", None, SOURCE, file_names(SOURCE))


def _source() -> dict[str, object]:
    try:
        found = json.loads(IDENTITY.read_text(encoding="utf-8"))
        return {key: found[key] for key in ("source", "weights_sha256")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{IDENTITY}: not readable ({error!r}); run `dvc repro source`") from error


if __name__ == "__main__":
    sys.exit(main())
