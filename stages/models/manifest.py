"""Weights that are not copied: a manifest of a model's files stands in their place, and they stay where they are.

Without a warm-up data/base/model holds only this list: the model, its commit, and each file's bytes and SHA-256. Stages depend on the list;
`model_folder` finds the files in the hub's cache or the user's folder and holds them against it before they are used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from stages.core.files import CACHE, atomic, real_root
from stages.core.params import load
from stages.models.hub import ModelError, fetch

BASE = Path("data/base/model")
SOURCE = Path("data/base/source")
MEMORY = CACHE / "sha256.json"
"""Digests by file, with the bytes and the time of change that they were taken at, so that a stage need not read 15 GB again."""
_NAME = "manifest.json"
_SCHEMA_VERSION = 1

Place = Literal["hub", "model.source", "data/base/source"]


@dataclass(frozen=True)
class Listed:
    """A file of a model."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A model's files, and where they are: in the hub's cache under `model` and `commit`, in the folder that `model.source` of params.yaml
    names, or in data/base/source. No path stands in it, as a model that is moved stays the same."""

    model: str
    place: Place
    commit: str | None
    files: dict[str, Listed]

    def write(self, kept: Path) -> None:
        """Put it into the folder that stands for the model."""
        content = {"schema_version": _SCHEMA_VERSION, **asdict(self)}
        (kept / _NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def list_files(model: str, place: Place, commit: str | None, folder: Path, names: Sequence[str]) -> Manifest:
    """The manifest of these files of a folder."""
    files = {name: Listed((folder / name).stat().st_size, sha256_of(folder / name)) for name in sorted(names)}
    return Manifest(model, place, commit, files)


def file_names(folder: Path) -> list[str]:
    """The files of a model folder, without those in folders below it."""
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def read_manifest(kept: Path) -> Manifest | None:
    """What stands in `kept` in a model's place; None where it holds the model itself. Raises `ModelError` for one that cannot be read."""
    path = kept / _NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema_version"] != _SCHEMA_VERSION:
            raise ValueError(f"schema_version {_SCHEMA_VERSION} expected, {content['schema_version']} found")
        files = {name: Listed(**file) for name, file in content["files"].items()}
        return Manifest(content["model"], content["place"], content["commit"], files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: no manifest of a model ({error!r}); run `dvc repro -f source`") from error


def model_folder(kept: Path = BASE) -> Path:
    """The folder with the weights, tokenizer and configuration that `kept` stands for; `kept` itself where it holds them.

    What the hub's cache lacks is fetched. Raises `ModelError` when a file is missing or is not the one that the manifest lists.
    """
    manifest = read_manifest(kept)
    if manifest is None:
        return kept
    folder = _find(manifest)
    for name, listed in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ModelError(f"{path}: no such file, {kept / _NAME} lists it; {_remedy(manifest, path)}")
        if (found := Listed(path.stat().st_size, sha256_of(path))) != listed:
            raise ModelError(
                f"{path}: {_shown(listed)} expected, as {kept / _NAME} lists it, {_shown(found)} found; {_remedy(manifest, path)}"
            )
    return folder


def _find(manifest: Manifest) -> Path:
    if manifest.place == "hub":
        return fetch(manifest.model, str(manifest.commit), list(manifest.files))
    return SOURCE if manifest.place == "data/base/source" else local_folder(load().model.source)


def local_folder(source: str) -> Path:
    """Where `model.source` lies if it is a folder: relative ones count from the project's root, also in an experiment's copy of it."""
    return Path(source).expanduser() if Path(source).is_dir() else real_root(Path()) / Path(source).expanduser()


def _remedy(manifest: Manifest, path: Path) -> str:
    return {
        "hub": f"remove {path.resolve()}, and it is fetched again",
        "data/base/source": "run `dvc checkout --force source`",
        "model.source": "put it back, or study the model as it is now: `dvc repro -f source`, then `dvc repro`",
    }[manifest.place]


def _shown(file: Listed) -> str:
    return f"{file.bytes:,} bytes with SHA-256 {file.sha256[:12]}"


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, remembered as long as neither its size nor its time of change differs."""
    key, state = str(path.resolve()), path.stat()
    mark = [state.st_size, state.st_mtime_ns]
    known = _remembered().get(key)
    if known and known[:2] == mark:
        return str(known[2])
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    everything = {**_remembered(), key: [*mark, digest]}
    with atomic(MEMORY) as temporary:
        temporary.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    return digest


def _remembered() -> dict[str, list[int | str]]:
    try:
        found: dict[str, list[int | str]] = json.loads(MEMORY.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError):
        return {}
