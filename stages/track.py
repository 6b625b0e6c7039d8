"""The `track` stage: the finished pipeline as MLflow runs and model versions.

    python -m stages.track

DVC holds the truth and this is a view of it. A stage that DVC restored from its cache makes no live run, so nothing is
logged while stages work: this last stage reads dvc.lock, the metrics and the students, and writes what the store lacks.
Running it again writes nothing. The store is MLFLOW_TRACKING_URI, or mlflow.db and mlartifacts/ in the project's root,
also for experiments that DVC runs elsewhere. A store that does not answer is reported and does not fail the pipeline.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core.params import load
from stages.core.process import run_stage
from stages.tracking import projection
from stages.tracking.lockfile import Lockfile, read_lockfile
from stages.tracking.registry import Registered, register
from stages.tracking.store import Store, UnreachableError, open_store
from stages.tracking.study import Contender, check_adapter, flatten, read_contenders, read_curve, read_rows

METRICS = Path("metrics")
REPORT = Path("report/index.html")


@dataclass(frozen=True)
class Inputs:
    """All that is recorded, read and checked before the store is opened."""

    settings: dict[str, Any]
    lock: Lockfile
    contenders: list[Contender]
    contrasts: list[dict[str, Any]]
    funnel: list[dict[str, Any]]


@dataclass(frozen=True)
class Recorded:
    """What a pass over the store found and wrote."""

    parent_is_new: bool
    children_new: int
    children_known: int
    versions: Sequence[Registered]


def main() -> int:
    """Run the stage. 0 also when the store does not answer; 1 and a message for whatever else prevents recording."""
    return run_stage("track", "shows the results in MLflow", run)


def run() -> str:
    """Record what the store lacks, and say what was written and how to look at it."""
    inputs = read_inputs()
    try:
        with open_store(Path.cwd()) as store:
            recorded = record(store, inputs, os.environ.get("DVC_EXP_NAME", ""))
    except UnreachableError as error:
        return f"not recorded: {error}"
    return summary(recorded, store)


def read_inputs() -> Inputs:
    """Read the project in the working directory. Raises `SettingsError`, `LockError` or `InputError`."""
    settings = load().model_dump(mode="json")
    lock = read_lockfile()
    files = {name: METRICS / f"{name}.json" for name in ("systems", "contrasts", "funnel")}
    contenders = read_contenders(files["systems"])
    contrasts, funnel = read_rows(files["contrasts"]), read_rows(files["funnel"])
    for path in files.values():
        lock.check_file(path)
    for student in filter(lambda c: c.is_student, contenders):
        check_adapter(Path(student.student_folder))
        read_curve(Path(student.student_folder))
    return Inputs(settings, lock, contenders, contrasts, funnel)


def record(store: Store, inputs: Inputs, experiment: str) -> Recorded:
    """Write what the store lacks of this workspace's state. The parent is finished last, when nothing is missing."""
    parent = projection.open_parent(store, inputs.lock, inputs.settings, inputs.contenders, experiment)
    if not parent.is_complete:
        projection.write_parent(store, parent, flatten(inputs.settings), inputs.contrasts, inputs.funnel)
    new = 0
    versions = []
    for contender in inputs.contenders:
        child = projection.open_child(store, parent, contender, inputs.lock)
        if not child.is_complete:
            projection.write_child(store, child, contender)
        new += child.is_new
        if contender.is_student:
            versions.append(register(store, contender, child, inputs.lock))
    projection.upload_report(store, parent, REPORT)
    if not parent.is_complete:
        projection.finish(store, parent)
    return Recorded(parent.is_new, new, len(inputs.contenders) - new, versions)


def summary(recorded: Recorded, store: Store) -> str:
    """What was written, and how to look at it."""
    new = sum(v.is_new for v in recorded.versions)
    lines = [
        f"this state is {'new' if recorded.parent_is_new else 'known'}; "
        f"runs of systems: {recorded.children_new} new, {recorded.children_known} known; "
        f"model versions: {new} new, {len(recorded.versions) - new} known",
        *(f"  {v.note}" for v in recorded.versions),
        f"store: {store.shown}",
        f"look at it with {store.open_with}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
