"""A copy of the project in a folder of its own, for tests that run its commands."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from structure import ROOT

VERSIONS = ("constraints.txt", "constraints-gpu.txt")


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
        *VERSIONS,
        ".gitignore",
        ".dvcignore",
    ):
        shutil.copy(ROOT / name, folder)
    enter(folder, monkeypatch)
    show_environment(folder / ".venv")


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go to a copy of the project, whose commands run its own code and keep to themselves what they write."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("HINTDISTILL_VENV", ".venv")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def show_environment(folder: Path) -> None:
    """This environment in a folder of links that counts as up to date: `./run` would make an outdated one anew, for the copy."""
    folder.mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != ".installed":
            (folder / entry.name).symlink_to(entry)
    gpu = shutil.which("nvidia-smi") and subprocess.run(["nvidia-smi", "-L"], capture_output=True).returncode == 0
    wanted = b"".join(Path(name).read_bytes() for name in ("pyproject.toml", VERSIONS[bool(gpu)]))
    named = subprocess.run(["git", "hash-object", "--stdin"], input=wanted, capture_output=True, check=True)
    (folder / ".installed").write_bytes(named.stdout)


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
