"""A finished study pushed to a remote; a second clone pulls it and runs nothing but the view of it. A folder, and S3 by a stand-in."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from project import commit, enter, run
from tracked import unused_port


@pytest.fixture
def s3() -> Iterator[str]:
    """The address of an S3 stand-in with an empty bucket named `studies`."""
    port = unused_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(300):
                try:
                    httpx.put(f"{url}/studies").raise_for_status()
                    break
                except httpx.TransportError:
                    assert server.poll() is None, "the stand-in for S3 has ended"
                    time.sleep(0.1)
            yield url
        finally:
            server.terminate()


@pytest.fixture
def first(small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished study."""
    shutil.copytree(small_study, tmp_path / "first", symlinks=True)
    enter(tmp_path / "first", monkeypatch)
    return tmp_path / "first"


def pulled(first: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Push from here, clone the study, pull there; the stages that `dvc repro` then runs."""
    commit("a remote")
    run("dvc", "push")
    second = first.parent / "second"
    run("git", "clone", "-q", str(first), str(second))
    enter(second, monkeypatch)
    run("dvc", "pull")
    assert (second / "data/students/alfworld_react_distilled_s0/adapter").is_dir()
    assert run("dvc", "status").strip().startswith("track:"), "all that is changed is what always runs"
    return re.findall(r"Running stage '(.*)'", run("dvc", "repro"))


@pytest.mark.slow
def test_a_second_clone_pulls_from_a_folder_and_runs_track_alone(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("dvc", "remote", "add", "--default", "folder", str(first.parent / "remote"))
    assert pulled(first, monkeypatch) == ["track"]


@pytest.mark.slow
def test_a_second_clone_pulls_from_s3_and_runs_track_alone(
    first: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    run("dvc", "remote", "add", "--default", "bucket", "s3://studies/small")
    run("dvc", "remote", "modify", "bucket", "endpointurl", s3)
    assert pulled(first, monkeypatch) == ["track"]
