"""The `base` stage: the pretrained model with the warm-up adapter merged in -> data/base/model/, the agent everyone starts from.

    python -m stages.base

In a later round (`rounds`) the adapters of earlier rounds' students follow. Without any adapter the pretrained model is the base, and
data/base/model/ holds its manifest alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from stages.core.files import real_root, replacing
from stages.core.params import load
from stages.core.process import run_stage
from stages.core.sections import Round
from stages.models.identity import base_name, check_student, template_of
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
    with replacing(OUT) as fresh, tempfile.TemporaryDirectory(dir=OUT.parent, prefix=".rounds.") as work:
        first, rounds = _first(fresh), load().rounds
        for number, earlier in enumerate(rounds, 1):
            student = fetched(earlier, Path(work) / f"student{number}")
            below = fresh.rename(Path(work) / f"base{number}")
            check_student(below, student / "adapter")
            fresh.mkdir()
            digest = merge(model_folder(below), student / "adapter", fresh)
            line = [f"{one.student} ({one.commit[:12]})" for one in rounds[:number]]
            _identify(fresh, first | {"students": line, "weights_sha256": digest})
        return base_name(fresh)


def _first(fresh: Path) -> dict[str, Any]:
    """Make the first round's base; what identifies it."""
    source = _source()
    if (WARMUP / "adapter_config.json").is_file():
        digest = merge(model_folder(SOURCE), WARMUP, fresh)
    else:
        digest = str(source["weights_sha256"])
        _manifest(str(source["source"])).write(fresh)
    template = template_of(IDENTITY)
    identity = {"schema_version": 1, "source": source["source"], "weights_sha256": digest}
    identity |= {"template": template} if template else {}
    _identify(fresh, identity)
    return identity


def _identify(folder: Path, identity: dict[str, Any]) -> None:
    (folder / "identity.json").write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")


def fetched(earlier: Round, out: Path) -> Path:
    """The folder of an earlier round's student, from DVC's cache or the remote storage. Raises `TrainingError` when neither has it."""
    from dvc.exceptions import DvcException  # DVC takes a second to import
    from dvc.repo import Repo

    place = f"data/students/{earlier.student}"
    try:
        Repo.get(str(real_root(Path())), place, out=str(out), rev=earlier.commit)
    except (DvcException, OSError) as error:
        raise TrainingError(
            f"rounds: {place} of commit {earlier.commit[:12]} cannot be had ({error}); `dvc repro` there, or `dvc pull` it from where it was made"
        ) from error
    return out


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
