"""Later rounds: a student becomes the base, by its commit, and is called by name in every record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from project import enter, run

from stages.core.records import Episode, read

STUDENT = "alfworld_react_distilled_s0"
ROUND = f"round2_{STUDENT}"


@pytest.fixture
def study(small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished study, which is the working directory."""
    shutil.copytree(small_study, tmp_path / "project", symlinks=True)
    enter(tmp_path / "project", monkeypatch)
    return tmp_path / "project"


def of_round(path: str, out: Path) -> Path:
    """An output of the second round's experiment."""
    [commit] = run("git", "for-each-ref", "--format=%(objectname)", f"refs/exps/**/{ROUND}").split()
    run("dvc", "get", ".", path, "--rev", commit, "--out", str(out))
    return out


@pytest.mark.slow
def test_the_second_round_begins_as_the_student_of_the_first_ended(study: Path, tmp_path: Path) -> None:
    head = run("git", "rev-parse", "HEAD").strip()
    assert ROUND in run("python", "-m", "stages", "rounds", STUDENT)
    student = read(Path(f"data/evals/{STUDENT}/test.parquet"), Episode)
    base = read(of_round("data/evals/alfworld_react_base", tmp_path / "base") / "test.parquet", Episode)
    assert [(e.task_id, e.turns) for e in base] == [(e.task_id, e.turns) for e in student]
    assert {e.model.rpartition("@")[0] for e in base} == {f"model + {STUDENT} ({head[:12]})"}
    identity = json.loads((of_round("data/base/model", tmp_path / "model") / "identity.json").read_text())
    assert identity["students"] == [f"{STUDENT} ({head[:12]})"]
    assert run("git", "status", "--porcelain") == "", "the workspace stays as it was"
