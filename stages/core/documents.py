"""JSON that stages wrote: documents that say their schema's version, and learning curves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.core.records import SCHEMA_VERSION, RecordError


def read_document(path: Path, *keys: str) -> list[Any]:
    """What a stage's JSON file has under these keys. Raises `RecordError` when it is missing, of another form or of another schema."""
    return parse_document(_text(path), str(path), *keys)


def parse_document(text: str, where: str, *keys: str) -> list[Any]:
    """The same of a text that was read; `where` names it in the error."""
    try:
        document = json.loads(text)
        version, *found = (document[key] for key in ("schema_version", *keys))
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{where}: not readable ({error!r}); run `dvc repro` to make it anew") from error
    if version != SCHEMA_VERSION:
        raise RecordError(f"{where}: schema_version {version} found, {SCHEMA_VERSION} expected; rerun the stage")
    return found


def read_curve(path: Path) -> list[dict[str, float]]:
    """A student's learning curve, a row a logged step: `step`, `loss`, and what else was logged. Raises `RecordError`."""
    lines = _text(path).splitlines()
    try:
        return [_point(json.loads(line)) for line in lines]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path}: not a learning curve ({error!r}); run `dvc repro` to make it anew") from error


def _point(row: dict[str, Any]) -> dict[str, float]:
    return {**{name: float(value) for name, value in row.items()}, "step": int(row["step"]), "loss": float(row["loss"])}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}; run `dvc repro` (or `dvc checkout`) to make it") from error
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: not readable ({error}); run `dvc repro` to make it anew") from error
