"""`python -m stages fetch` in a project without data."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from structure import ROOT
from test_archives import zipped

from stages.commands import main as command


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project without data."""
    for file in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / file, tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fetch(elsewhere: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Run the command; its exit code and what it said, outputs and fault together."""

    def run(*args: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["stages", "fetch", *map(str, args)])
        monkeypatch.setattr("time.sleep", lambda _: None)
        code = command.main()
        said, fault = capfd.readouterr()
        return code, said + fault

    return run


def setting(env: str, **changes: Any) -> None:
    """Change settings below panels.<env>; `a__b=1` changes `a.b`."""
    values = yaml.safe_load(Path("params.yaml").read_text())
    for key, value in changes.items():
        section = values["panels"][env]
        *parents, last = key.split("__")
        for parent in parents:
            section = section[parent]
        section[last] = value
    Path("params.yaml").write_text(yaml.safe_dump(values))


def pack(folder: Path, archive: Path) -> Path:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return zipped(archive, {path.relative_to(folder).as_posix(): path.read_bytes() for path in files})
