"""A copy of the project in a folder of its own, for tests that run its commands."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from structure import ROOT


def copy_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy what git tracks of the project's code and settings, and go there."""
    for name in ("stages", "profiles", "data/demos"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        "params.yaml",
        "curated.yaml",
        "dvc.yaml",
        "run",
        "pyproject.toml",
        "constraints.txt",
        ".gitignore",
        ".dvcignore",
    ):
        shutil.copy(ROOT / name, folder)
    enter(folder, monkeypatch)


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to a copy of the project, whose commands run its own code and keep to themselves what they write."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("HINTDISTILL_VENV", sys.prefix)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def run(*command: str, stdin: str = "", code: int = 0) -> str:
    """What a command prints. Fails, with its last words, unless it ends with `code`."""
    done = subprocess.run(command, capture_output=True, text=True, input=stdin)
    assert done.returncode == code, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def start_repository() -> None:
    """Make the copy a repository of git and DVC, with all of it committed."""
    run("git", "init", "-q")
    run("git", "config", "user.email", "test@example.org")
    run("git", "config", "user.name", "test")
    run("dvc", "init", "-q")
    commit("begin")


def commit(message: str) -> None:
    run("git", "add", "-A")
    run("git", "commit", "-q", "-m", message)
