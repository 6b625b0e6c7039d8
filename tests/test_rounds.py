"""Later rounds: a student becomes the base, by its commit, and is called by name in every record."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
from project import enter, run, start_repository
from structure import ROOT

from stages import base
from stages.commands import rounds
from stages.commands.rounds import RoundError
from stages.core.records import Episode, read
from stages.core.sections import Round
from stages.training.trainer import TrainingError

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


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of git and DVC with the project's settings, and nothing else."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    start_repository()
    return tmp_path


@pytest.mark.parametrize(
    ("student", "because"),
    [
        (
            "alfworld_react_distilled_s7",
            "no student of this study, which has alfworld_react_sft_s0, alfworld_react_distilled_s0",
        ),
        ("sokoban", "no student of this study"),
    ],
)
def test_what_is_no_student_is_named(here: Path, student: str, because: str) -> None:
    with pytest.raises(RoundError, match=f"{student}: {because}"):
        rounds.cell_of(student)


def test_a_student_that_needs_hints_is_no_base(here: Path) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8").replace("arm: [sft, distilled]", "arm: [sft, hinted]")
    Path("params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RoundError, match="it learnt to play with hints"):
        rounds.cell_of("alfworld_react_hinted_s0")


def test_fewer_rounds_than_there_are_is_refused(here: Path) -> None:
    with pytest.raises(RoundError, match="--rounds 1: HEAD is round 1; ask for more"):
        rounds.run(Namespace(student=STUDENT, after="HEAD", rounds=1))


def test_a_student_that_no_commit_has_is_named(here: Path, tmp_path: Path) -> None:
    commit = run("git", "rev-parse", "HEAD").strip()
    with pytest.raises(TrainingError, match=f"rounds: data/students/{STUDENT} of commit {commit[:12]} cannot be had"):
        base.fetched(Round(commit=commit, student=STUDENT), tmp_path / "out")
