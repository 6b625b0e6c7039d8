"""A registered student, found by its address and brought to this machine."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from stages.core.process import Fault
from stages.tracking.store import check_recorded, open_store

_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+|latest))")


class ModelError(Fault, LookupError):
    """There is no such registered student: says what was looked for, and where."""


@dataclass(frozen=True)
class Student:
    """A version's adapter folder, and what it was trained for and on; `base` is the name of the model that it adapts."""

    folder: Path
    env: str
    agent: str
    arm: str
    seed: int
    base: str


def fetch(address: str, to: Path) -> Student:
    """Download what `models:/NAME@ALIAS` or `models:/NAME/VERSION` names into `to`, laid out as the students stage does: the folder `adapter`,
    and student.json with the base beside it. Raises `ModelError` or `StoreError`."""
    named = _ADDRESS.fullmatch(address)
    if named is None:
        raise ModelError(
            f"{address!r} is no model: expected models:/NAME@champion, models:/NAME/latest or models:/NAME/3"
        )
    check_recorded(Path.cwd())
    with open_store(Path.cwd()) as store:
        try:
            if named["alias"]:
                version = store.client.get_model_version_by_alias(named["name"], named["alias"])
            elif named["version"] == "latest":
                version = max(
                    store.client.search_model_versions(f"name = '{named['name']}'"), key=lambda v: int(v.version)
                )
            else:
                version = store.client.get_model_version(named["name"], named["version"])
            place = f"models:/{version.name}/{version.version}"
            folder = Path(download_artifacts(place, dst_path=str(to / "adapter")))
        except (MlflowException, ValueError) as error:
            known = ", ".join(model.name for model in store.client.search_registered_models()) or "none"
            raise ModelError(
                f"{address}: not in {store.shown}, whose registered models are: {known} ({error})"
            ) from error
    tags = version.tags
    try:
        student = Student(folder, tags["env"], tags["agent"], tags["arm"], int(tags["seed"]), tags["base_model"])
    except KeyError as error:
        raise ModelError(
            f"{address}: version {version.version} has no tag {error}; it was not registered by `track`"
        ) from error
    (folder.parent / "student.json").write_text(json.dumps({"base": student.base}) + "\n", encoding="utf-8")
    return student
