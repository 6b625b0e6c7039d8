"""Later rounds: a student becomes the base, by its commit, and is called by name in every record."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
from project import commit, enter, run, start_repository
from structure import ROOT

from stages import base
from stages.commands import rounds
from stages.commands.rounds import RoundError
from stages.core.records import Episode, read
from stages.tracking.study import Contender
from stages.training.trainer import TrainingError

CELL = "alfworld_react"
STUDENT = f"{CELL}_distilled_s0"
ROUND = f"round2_{STUDENT}"


@pytest.fixture
def study(small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished study, which is the working directory."""
    shutil.copytree(small_study, tmp_path / "project", symlinks=True)
    enter(tmp_path / "project", monkeypatch)
    return tmp_path / "project"


def of_round(path: str, out: Path) -> Path:
    """An output of the second round's experiment."""
    [found] = run("git", "for-each-ref", "--format=%(objectname)", f"refs/exps/**/{ROUND}").split()
    run("dvc", "get", ".", path, "--rev", found, "--out", str(out))
    return out


@pytest.mark.slow
def test_the_second_round_begins_as_the_student_of_the_first_ended(study: Path, tmp_path: Path) -> None:
    head = run("git", "rev-parse", "HEAD").strip()
    assert ROUND in run("python", "-m", "stages", "rounds", STUDENT)
    student = read(Path(f"data/evals/{STUDENT}/test.parquet"), Episode)
    own = read(of_round(f"data/evals/{CELL}_base", tmp_path / "base") / "test.parquet", Episode)
    assert [(e.task_id, e.turns) for e in own] == [(e.task_id, e.turns) for e in student]
    assert {e.model.rpartition("@")[0] for e in own} == {f"model + {STUDENT} ({head[:12]})"}
    identity = json.loads((of_round("data/base/model", tmp_path / "model") / "identity.json").read_text())
    assert identity["students"] == [f"{STUDENT} ({head[:12]})"]
    assert run("git", "status", "--porcelain") == "", "the workspace stays as it was"
    again = run("python", "-m", "stages", "rounds", STUDENT)
    assert again.startswith("rounds: there are 2") and head[:12] in again, "what is there is not run again"
    shutil.rmtree(".dvc/cache")
    shutil.rmtree("data/base/model")
    with pytest.raises(TrainingError, match=f"before: data/base/model of commit {head[:12]} cannot be had"):
        base.fetched(head, "data/base/model", tmp_path / "gone")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of git and DVC with the project's settings, and nothing else."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    start_repository()
    return tmp_path


def asked(student: str = STUDENT, after: str = "HEAD", number: int = 2) -> Namespace:
    return Namespace(student=student, after=after, rounds=number)


@pytest.mark.parametrize(
    ("wanted", "because"),
    [
        (
            asked("alfworld_react_distilled_s7"),
            "s7: no student of this study, which has alfworld_react_sft_s0, alfworld_react_distilled_s0",
        ),
        (asked("sokoban"), "'sokoban' is no student that plays without hints"),
        (asked("alfworld_react_hinted_s0"), "is no student that plays without hints"),
        (asked(number=1), "--rounds 1: HEAD is round 1; ask for more"),
        (asked(after="workspace"), "--after workspace: a round follows a commit"),
    ],
)
def test_what_cannot_be_a_round_is_named(here: Path, wanted: Namespace, because: str) -> None:
    with pytest.raises(RoundError, match=because):
        rounds.run(wanted)


def test_a_round_goes_on_with_the_settings_of_the_one_before(here: Path) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("  k: 3 ", "  k: 1 "), encoding="utf-8")
    with pytest.raises(RoundError, match=r"other settings than HEAD \(hints.k\)"):
        rounds.run(asked())


def test_rounds_are_counted_by_the_commits_they_go_back_to(here: Path) -> None:
    first = run("git", "rev-parse", "HEAD").strip()
    later = {
        "before: null": f"before: {{commit: {first}, student: {STUDENT}}}",
        "cell: [alfworld_react, webshop_act]": f"cell: [{CELL}]",
    }
    text = Path("params.yaml").read_text(encoding="utf-8")
    for old, new in later.items():
        assert old in text
        text = text.replace(old, new)
    Path("params.yaml").write_text(text, encoding="utf-8")
    commit("a second round")
    with pytest.raises(RoundError, match="HEAD is round 2"):
        rounds.run(asked())


def test_a_student_that_no_commit_has_is_named(here: Path, tmp_path: Path) -> None:
    head = run("git", "rev-parse", "HEAD").strip()
    with pytest.raises(TrainingError, match=f"before: data/students/{STUDENT} of commit {head[:12]} cannot be had"):
        base.fetched(head, f"data/students/{STUDENT}", tmp_path / "out")


@pytest.mark.parametrize(
    ("model", "adapted"),
    [
        ("smollm2@0123+4567", "smollm2@0123"),
        (f"smollm2 + {STUDENT} (89ab)@0123+4567", f"smollm2 + {STUDENT} (89ab)@0123"),
        (f"smollm2 + {STUDENT} (89ab)@0123", f"smollm2 + {STUDENT} (89ab)@0123"),
    ],
)
def test_the_base_of_a_student_is_all_but_its_own_adapter(model: str, adapted: str) -> None:
    assert Contender("alfworld", "react", "distilled", 0, {"test": {"panel": "test", "model": model}}).base == adapted
