"""What a model is called in records: its source, the students of earlier rounds that it is, the arguments of its chat template, and the digest of
its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.models.hub import ModelError


def template_of(record: Path) -> dict[str, Any]:
    """The template's arguments as the record of a model says them (identity.json, source.json); none where it says nothing."""
    found = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    return dict(found.get("template", {}))


def base_name(base: Path) -> str:
    """Of the base model that stands in a folder. Raises `ModelError` when nothing identifies it."""
    path = base / "identity.json"
    if not path.is_file():
        raise ModelError(f"{path}: no such file; run `dvc repro base`")
    found = json.loads(path.read_text(encoding="utf-8"))
    template = "; ".join(f"{name}={json.dumps(value)}" for name, value in template_of(path).items())
    line = "".join(f" + {student}" for student in found.get("students", ()))
    return f"{found['source']}{line}{f' ({template})' if template else ''}@{found['weights_sha256'][:12]}"


def check_student(base: Path, adapter: Path) -> None:
    """Raise `ModelError` when the student that holds an adapter learnt on another base than the one in a folder, or with another template."""
    path = adapter.parent / "student.json"
    try:
        trained = str(json.loads(path.read_text(encoding="utf-8"))["base"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: does not say on which base the student learnt ({error!r}); run `dvc repro students`"
        ) from error
    if trained != (now := base_name(base)):
        raise ModelError(
            f"{path}: the student learnt on the base {trained}, and {base} is {now}; run `dvc repro students`"
        )
