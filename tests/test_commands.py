"""What is done by hand, beside the pipeline: profiles, and holding outputs against dvc.lock."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.cli import main as dvc
from structure import ROOT

from stages.commands.main import main
from stages.commands.profile import apply_profile
from stages.commands.verify import verify
from stages.core import process
from stages.core.params import SettingsError, load
from stages.tracking.lockfile import LockError


@pytest.fixture
def params(tmp_path: Path) -> Path:
    return Path(shutil.copy(ROOT / "params.yaml", tmp_path))


def overlay(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_profile_gives_usable_settings_and_keeps_the_comments(params: Path, profile: Path) -> None:
    before = params.read_text(encoding="utf-8")
    changed = apply_profile(params, profile)
    after = params.read_text(encoding="utf-8")
    load(params)
    assert changed
    taken_out = any(line.endswith("taken out") for line in changed)  # with its comments
    assert after.count("#") < before.count("#") if taken_out else after.count("#") == before.count("#")
    assert apply_profile(params, profile) == []


def test_the_laptop_study_has_as_many_test_games_as_the_official_unseen_split(params: Path) -> None:
    apply_profile(params, ROOT / "profiles" / "cpu_study.yaml")
    assert sum(load(params).panels["alfworld"].sizes["test"].values()) == 134


def test_a_profile_changes_what_it_names_and_nothing_else(tmp_path: Path, params: Path) -> None:
    before = yaml.safe_load(params.read_text(encoding="utf-8"))
    assert apply_profile(params, overlay(tmp_path, "students: {webshop: {lora: {r: 4}}}\n")) == [
        "students.webshop.lora.r: 16 -> 4"
    ]
    before["students"]["webshop"]["lora"]["r"] = 4
    assert yaml.safe_load(params.read_text(encoding="utf-8")) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("students: {webshop: {lora: {rank: 4}}}\n", "students.webshop.lora.rank"),
        ("hints: {k: 0}\n", "hints.k"),
        ("hints: {k: [}\n", "profile.yaml"),
    ],
)
def test_an_unusable_profile_is_refused_and_changes_nothing(tmp_path: Path, params: Path, text: str, said: str) -> None:
    before = params.read_bytes()
    with pytest.raises(SettingsError, match=said):
        apply_profile(params, overlay(tmp_path, text))
    assert params.read_bytes() == before


def lock(folder: Path) -> Path:
    """A project with two outputs, a file and a folder, and a dvc.lock that says so, and of a stage that is no more."""
    assert dvc(["init", "--no-scm", "-q"]) == 0
    made = {"cmd": "true", "outs": ["one.json", "many"]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"made": made}}))
    (folder / "one.json").write_bytes(b"1")
    (folder / "many" / "below").mkdir(parents=True)
    (folder / "many" / "b").write_bytes(b"2")
    (folder / "many" / "below" / "a").write_bytes(b"3")
    one, two, three = (hashlib.md5(text).hexdigest() for text in (b"1", b"2", b"3"))
    listing = json.dumps([{"md5": two, "relpath": "b"}, {"md5": three, "relpath": "below/a"}])
    outs = [
        {"path": "one.json", "md5": one},
        {"path": "many", "md5": hashlib.md5(listing.encode()).hexdigest() + ".dir"},
    ]
    path = folder / "dvc.lock"
    gone = {"cmd": "true", "outs": [{"path": "gone.json", "md5": one}]}
    stages = {"made": {"cmd": "true", "outs": outs}, "gone": gone}
    path.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    return path


def test_outputs_as_the_lock_says_have_no_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert verify(lock(tmp_path)) == []


@pytest.mark.parametrize("file", ["one.json", "many/below/a"])
def test_an_altered_output_is_named_with_both_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = lock(tmp_path)
    Path(file).write_bytes(b"altered")
    [fault] = verify(path)
    assert fault.startswith(file.split("/")[0] + ": ") and "expected" in fault and "found" in fault


def test_a_missing_output_and_a_missing_lock_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = lock(tmp_path)
    Path("one.json").unlink()
    assert verify(path) == ["one.json: missing; run `dvc checkout` or `dvc repro`"]
    with pytest.raises(LockError, match="dvc repro"):
        verify(tmp_path / "no.lock")


def test_the_hashes_are_dvcs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert dvc(["init", "--no-scm", "-q"]) == 0
    command = "mkdir -p out/deep && echo 1 > out/z && echo 2 > out/deep/a && echo 3 > single"
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"made": {"cmd": command, "outs": ["out", "single"]}}}))
    assert dvc(["repro", "-q"]) == 0
    assert verify(Path("dvc.lock")) == []


def test_outside_the_projects_root_it_is_said_where_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stages", "verify"])
    assert main() == 1
    assert capsys.readouterr() == ("", f"{tmp_path} has no dvc.yaml: start this in the project's root\n")


def test_a_stage_says_what_it_does_and_what_came_of_it_or_what_is_at_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(cell: str, seed: int) -> str:
        if seed == 9:
            raise SettingsError("no seed 9")
        return f"{cell} by seed {seed}"

    def stage(*options: str) -> int:
        monkeypatch.setattr(sys, "argv", ["made", *options])
        return process.run_stage("made", "makes it", made, "cell", "seed")

    monkeypatch.setattr(process, "die_with_parent", lambda: None)
    monkeypatch.chdir(tmp_path)
    assert stage("--cell", "a_b") == 1, "it is not the root"
    assert "start this in the project's root" in capsys.readouterr().err
    Path("dvc.yaml").touch()
    assert (stage("--cell", "a_b"), stage("--cell", "a_b", "--seed", "7")) == (0, 0)
    assert capsys.readouterr().out.splitlines()[1::2] == ["made: a_b by seed 0", "made: a_b by seed 7"]
    assert stage("--cell", "a_b", "--seed", "9") == 1
    assert capsys.readouterr() == ("made a_b 9: makes it\n", "made: no seed 9\n")


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_stage_ends_with_the_process_that_started_it() -> None:
    stage = "from stages.core.process import die_with_parent; die_with_parent(); print('on', flush=True); import time; time.sleep(60); print('outlived')"
    starter = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {stage!r}]); print(p.pid, flush=True); p.wait()"
    parent = subprocess.Popen(
        [sys.executable, "-c", starter],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert parent.stdout is not None
    started = [parent.stdout.readline(), parent.stdout.readline()]
    assert "on\n" in started
    parent.send_signal(signal.SIGKILL)
    assert parent.stdout.read() == "", "the pipe ends with the child, before it could say that it outlived its parent"
    parent.wait()
