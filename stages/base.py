"""The `base` stage: the pretrained model with the warm-up adapter merged in -> data/base/model/, the agent everyone starts from.

    python -m stages.base

Without a warm-up the pretrained model is the base, and data/base/model/ holds its manifest alone. In a later round (`before`) the base is that of
the round before with a student's adapter merged in.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from stages.core.files import real_root, replacing
from stages.core.params import load
from stages.core.process import run_stage
from stages.core.sections import Before
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
    before = load().before
    with replacing(OUT) as fresh:
        identity = next_round(before, fresh) if before else first_round(fresh)
        (fresh / "identity.json").write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
        return base_name(fresh)


def first_round(fresh: Path) -> dict[str, object]:
    """Make the base of the pretrained model; returns what identifies it."""
    source = _source()
    if (WARMUP / "adapter_config.json").is_file():
        digest = merge(model_folder(SOURCE), WARMUP, fresh)
    else:
        digest = str(source["weights_sha256"])
        _manifest(str(source["source"])).write(fresh)
    template = template_of(IDENTITY)
    identity = {"schema_version": 1, "source": source["source"], "weights_sha256": digest}
    return identity | ({"template": template} if template else {})


def next_round(before: Before, fresh: Path) -> dict[str, object]:
    """Make the base of the round before and its student; returns what identifies it. Raises `TrainingError`, or `ModelError` where the student
    learnt on another base."""
    with tempfile.TemporaryDirectory(dir=OUT.parent, prefix=".before.") as work:
        base = fetched(before.commit, str(OUT), Path(work) / "base")
        student = fetched(before.commit, f"data/students/{before.student}", Path(work) / "student")
        check_student(base, student / "adapter")
        digest = merge(model_folder(base), student / "adapter", fresh)
        identity = json.loads((base / "identity.json").read_text(encoding="utf-8"))
    line = [*identity.get("students", ()), f"{before.student} ({before.commit[:12]})"]
    return {**identity, "students": line, "weights_sha256": digest}


def fetched(commit: str, path: str, out: Path) -> Path:
    """An output of a commit of this project, from DVC's cache or the remote storage. Raises `TrainingError` when neither has it."""
    from dvc.exceptions import DvcException  # DVC takes a second to import
    from dvc.repo import Repo
    from dvc_data.index import DataIndexError

    try:
        Repo.get(str(real_root(Path())), path, out=str(out), rev=commit)
    except (DvcException, DataIndexError, OSError) as error:
        raise TrainingError(
            f"before: {path} of commit {commit[:12]} cannot be had ({error}); `dvc repro` at that commit, or `dvc pull` it from where it was made"
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
