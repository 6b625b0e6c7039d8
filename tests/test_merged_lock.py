"""A dvc.lock in which a merge of git left both sides: every reader says so, and what it advises works."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from project import commit, enter, run

from stages.commands.verify import verify
from stages.tracking.lockfile import LockError, read_lockfile
from stages.viewing.revisions import RevisionError, find_revision

LOCK = Path("dvc.lock")


@pytest.fixture
def merging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository in the middle of a merge of two branches on which a stage ran with different settings."""
    enter(tmp_path, monkeypatch)
    made = {"cmd": "echo ${size} > out", "params": ["size"], "outs": [{"out": {"cache": False}}]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"made": made}}), encoding="utf-8")
    Path("params.yaml").write_text("size: 1\n", encoding="utf-8")
    run("git", "init", "-q", "-b", "ours")
    run("git", "config", "user.email", "test@example.org")
    run("git", "config", "user.name", "test")
    run("dvc", "init", "-q")
    work(1)
    run("git", "checkout", "-q", "-b", "theirs")
    work(2)
    run("git", "checkout", "-q", "ours")
    work(3)
    run("git", "merge", "-q", "theirs", code=1)
    assert "<<<<<<< " in LOCK.read_text(encoding="utf-8")
    Path("params.yaml").write_text("size: 2\n", encoding="utf-8")


def work(size: int) -> None:
    Path("params.yaml").write_text(f"size: {size}\n", encoding="utf-8")
    run("dvc", "repro", "-q")
    commit(str(size))


def test_every_reader_says_what_to_do(merging: None) -> None:
    advice = r"dvc\.lock: a merge left both sides in it.*`git checkout --ours dvc\.lock`.*then run `dvc repro`"
    with pytest.raises(LockError, match=advice):
        read_lockfile()
    with pytest.raises(LockError, match=advice):
        verify(LOCK)
    with pytest.raises(RevisionError, match=f"^workspace: {advice}"):
        _ = find_revision("workspace").stages


def test_the_advice_works_while_the_merge_is_open_and_after_it(merging: None) -> None:
    run("dvc", "repro", "-q", code=255)
    run("git", "checkout", "--ours", "dvc.lock")
    run("dvc", "repro", "-q")
    assert Path("out").read_text(encoding="utf-8") == "2\n" and verify(LOCK) == []


def test_the_advice_works_after_the_marks_were_committed(merging: None) -> None:
    commit("a merge with its marks")
    run("git", "checkout", "ours~1", "--", "dvc.lock")
    run("dvc", "repro", "-q")
    assert Path("out").read_text(encoding="utf-8") == "2\n" and verify(LOCK) == []
