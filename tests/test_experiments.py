"""Experiments of the small study, in the workspace, as a grid and from the queue with two workers: all in one store, nothing twice."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from project import enter, run

WAIT = 600  # seconds for the queue


@pytest.fixture
def study(small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the finished study, its store with it."""
    shutil.copytree(small_study, tmp_path / "project", symlinks=True)
    enter(tmp_path / "project", monkeypatch)


def experiments() -> dict[str, str]:
    """Commits of all experiments by name."""
    listed = run("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps/").splitlines()
    found = [line.split() for line in listed]
    return {name.rpartition("/")[2]: commit for name, commit in found if name.count("/") == 4 and "celery" not in name}


def evaluations(revisions: list[str]) -> set[tuple[str, str]]:
    """The different evaluations of these commits: output and hash."""
    locks = [yaml.safe_load(run("git", "show", f"{revision}:dvc.lock")) for revision in revisions]
    outs = [out for lock in locks for stage in lock["stages"].values() for out in stage.get("outs", [])]
    return {(out["path"], out["md5"]) for out in outs if out["path"].startswith("data/evals/")}


def work_off_queue(workers: int) -> None:
    """Let workers run what is queued, and wait for the last of it."""
    run("dvc", "queue", "start", "--jobs", str(workers))
    for _ in range(WAIT):
        status = run("dvc", "queue", "status")
        if not any(word in status for word in ("Queued", "Running")):
            break
        time.sleep(1)
    run("dvc", "queue", "stop")
    assert "Failed" not in status and "Queued" not in status and "Running" not in status, status


def recorded(kind: str) -> Counter[str]:
    """The runs of the one store by their keys."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{Path.cwd() / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("hintdistill")
    runs = client.search_runs([experiment.experiment_id], f"tags.kind = '{kind}'", max_results=1000)
    assert {r.info.status for r in runs} == {"FINISHED"}
    return Counter(r.data.tags["hintdistill.key"] for r in runs)


@pytest.mark.slow
def test_experiments_grids_and_the_queue_land_in_one_store_without_doubles(study: None) -> None:
    before = recorded("system")
    run("dvc", "exp", "run", "--name", "here", "-S", "stats.bootstrap=120")
    run("git", "checkout", "-q", ".")
    run("dvc", "checkout")
    assert recorded("system") == before, "another bootstrap evaluates nothing anew"
    for name, setting in (("grid", "stats.seed=5,6"), ("hints", "hints.k=1,2")):
        run("dvc", "exp", "run", "--queue", "--name", name, "-S", setting)
    work_off_queue(workers=2)
    found = experiments()
    assert len(found) == 5, found
    systems, studies = recorded("system"), recorded("study")
    assert set(systems.values()) == set(studies.values()) == {1}
    assert len(systems) == len(evaluations(["HEAD", *found.values()])) > len(before)
    assert len(studies) == 1 + len(found)
    assert sorted(Path().rglob("mlflow.db")) == [Path("mlflow.db")], "no worker has a store of its own"
