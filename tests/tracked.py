"""A finished pipeline in the working directory, and what MLflow's store then holds."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from finished_pipeline import ADAPTER, write_results, write_student
from structure import ROOT

from stages.tracking import store as stores

from mlflow.artifacts import download_artifacts  # isort: skip
from mlflow.entities import Run, Trace  # isort: skip
from mlflow.tracking import MlflowClient  # isort: skip

MODEL = "hintdistill-alfworld-react-distilled"
BASE, DISTILLED = "alfworld react: base", "alfworld react: distilled, seed 0"


def finish_pipeline(folder: Path, empty_store: Path, patch: pytest.MonkeyPatch) -> None:
    """A finished pipeline in `folder`, which becomes the working directory: `base` and one student, on both panels."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DVC_EXP_NAME"):
        patch.delenv(name, raising=False)
    shutil.copy(empty_store, folder / stores.DATABASE)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    patch.chdir(folder)
    patch.setattr(sys, "argv", ["track"])
    write_student(folder, ADAPTER)
    write_results(folder)


def client(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root / stores.DATABASE}")


def runs(root: Path, kind: str = "") -> list[Run]:
    """All runs, or those of a kind."""
    experiment = client(root).get_experiment_by_name(stores.EXPERIMENT)
    assert experiment is not None
    return list(client(root).search_runs([experiment.experiment_id], f"tags.kind = '{kind}'" if kind else ""))


def named(root: Path) -> dict[str, Run]:
    """All runs by name; a name twice is a double."""
    found = runs(root)
    names = [run.info.run_name for run in found]
    assert len(set(names)) == len(names), names
    return dict(zip(names, found, strict=True))


def traces(root: Path, run: Run) -> list[Trace]:
    found = client(root).search_traces(locations=[run.info.experiment_id], run_id=run.info.run_id, max_results=500)
    return list(found)


def table(root: Path, run: Run, name: str) -> list[dict[str, Any]]:
    """A logged table's rows."""
    content = json.loads(Path(download_artifacts(f"{run.info.artifact_uri}/{name}.json")).read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def champion(root: Path) -> str:
    return str(client(root).get_model_version_by_alias(MODEL, "champion").version)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(address: str) -> None:
    """Until a server on this machine answers."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{address} does not answer")
