"""The journal: a run that was killed goes on where it was, and old episodes never meet other settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ladder
import pytest
from ladder import AGENT, CODE, IDENTITY, NO_HINTS, PLAY, FakeEngine, World, own_category, play, task, up

from stages.core import files
from stages.core.records import Message
from stages.runner import study
from stages.runner.episodes import play_tasks
from stages.runner.journal import Journal, JournalError, identity_key


def test_a_second_run_plays_only_what_is_missing(tmp_path: Path) -> None:
    tasks = [task(n) for n in range(6)]
    fresh = play(tmp_path / "whole", tasks, World(), FakeEngine(up))

    class Outage(Exception):
        pass

    def fails(messages: Sequence[Message]) -> str:
        if engine.opened == 5:
            raise Outage
        return up(messages)

    engine = FakeEngine(fails, slots=2)
    with pytest.raises(Outage):
        play(tmp_path / "resumed", tasks, World(), engine)
    world = World()
    episodes = play(tmp_path / "resumed", tasks, world, FakeEngine(up))
    assert 0 < len(world.resets) < len(tasks)
    assert episodes == fresh
    idle = World()
    assert play(tmp_path / "resumed", tasks, idle, FakeEngine(up)) == fresh
    assert idle.resets == [] and idle.made == 0


def journal_file(folder: Path) -> Path:
    return folder / f"{identity_key(IDENTITY)}-{CODE[:12]}.jsonl"


@pytest.mark.parametrize("damage", ["torn", "torn at its very end", "no episode", "zeros"])
def test_a_torn_last_line_is_dropped(tmp_path: Path, damage: str) -> None:
    tasks = [task(n) for n in range(4)]
    fresh = play(tmp_path, tasks, World(), FakeEngine(up, slots=1))
    path = journal_file(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    last = {
        "torn": lines[-1][: len(lines[-1]) // 2],
        "torn at its very end": lines[-1][:-1],
        "no episode": b'{"task_id": "t3"}\n',
        "zeros": bytes(len(lines[-1])),  # what a file system may leave after a power cut
    }[damage]
    path.write_bytes(b"".join(lines[:-1]) + last)
    world = World()
    assert play(tmp_path, tasks, world, FakeEngine(up)) == fresh
    assert world.resets == ["t3"]
    assert path.read_bytes() == b"".join(lines)


@pytest.mark.parametrize("change", [{"k": 4}, {"play": {**vars(PLAY), "model": "other"}}, {"bank": []}])
def test_other_settings_never_meet_old_episodes(tmp_path: Path, change: dict[str, Any]) -> None:
    play(tmp_path, [task(1)], World(), FakeEngine(up))
    world = World()
    play(tmp_path, [task(1)], world, FakeEngine(up), identity={**IDENTITY, **change})
    assert world.resets == ["t1"]


def test_the_order_of_settings_does_not_matter() -> None:
    assert identity_key({"a": 1, "b": {"c": 2, "d": 3}}) == identity_key({"b": {"d": 3, "c": 2}, "a": 1})


def test_a_discarded_journal_is_gone(tmp_path: Path) -> None:
    play(tmp_path, [task(1)], World(), FakeEngine(up))
    with Journal(tmp_path, IDENTITY, CODE) as journal:
        assert set(journal.finished) == {"t1"}
        journal.discard()
    with Journal(tmp_path, IDENTITY, CODE) as journal:
        assert journal.finished == {}


def test_other_code_never_meets_old_episodes_and_names_its_own_alike(tmp_path: Path) -> None:
    [old] = play(tmp_path, [task(1)], World(), FakeEngine(up))
    with Journal(tmp_path, IDENTITY, "d" * 64) as journal:
        assert journal.finished == {}
        [new] = play_tasks([task(1)], PLAY, AGENT, FakeEngine(up), World().make, own_category, NO_HINTS, journal)
        assert new.episode_id == old.episode_id
        journal.discard()
    assert not list(tmp_path.glob("*.jsonl")), "what other code left of the same episodes goes too"


@pytest.mark.parametrize("name", ["a.py", "b.cpp", "c.h"])
def test_the_codes_digest_is_of_what_episodes_depend_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files.code_sha256(study.PLAYING) == files.code_sha256(study.PLAYING)
    for part in (*study.PLAYING, "reporting"):
        (tmp_path / part).mkdir()
        (tmp_path / part / name).write_text("1")
    monkeypatch.setattr(files, "CODE", tmp_path)
    before = files.code_sha256(study.PLAYING)
    (tmp_path / "reporting" / name).write_text("2")
    assert files.code_sha256(study.PLAYING) == before
    (tmp_path / "envs" / name).write_text("2")
    assert files.code_sha256(study.PLAYING) != before


def start_child(folder: Path, tasks: int, seconds: float) -> subprocess.Popen[bytes]:
    root = Path(__file__).parent.parent
    return subprocess.Popen(
        [sys.executable, ladder.__file__, str(folder), str(tasks), str(seconds)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def finished(folder: Path) -> list[str]:
    path = journal_file(folder)
    whole = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line)["task_id"] for line in whole if line.endswith(b"\n")]


def wait_for(child: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        assert child.poll() is None, "the child ended before its time"
        time.sleep(0.01)
    pytest.fail("the child did not get far enough in a minute")


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    child = start_child(tmp_path, tasks=100, seconds=0.05)
    try:
        wait_for(child, lambda: bool(finished(tmp_path)))
        with pytest.raises(JournalError, match="another process is playing these episodes"):
            play(tmp_path, [task(1)], World(), FakeEngine(up))
        before = finished(tmp_path)
        play(tmp_path, [task(1)], World(), FakeEngine(up), identity={"other": 1})
        wait_for(child, lambda: len(finished(tmp_path)) > len(before))
    finally:
        child.kill()
        child.wait()


def test_a_killed_run_goes_on_without_playing_a_finished_episode_again(tmp_path: Path) -> None:
    tasks = 40
    child = start_child(tmp_path, tasks, seconds=0.01)
    wait_for(child, lambda: len(finished(tmp_path)) >= 5)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    done = finished(tmp_path)
    assert 5 <= len(done) < tasks, "the kill must come midway"
    won = (tmp_path / "tops").read_text().split()
    assert set(done) <= set(won) and len(won) <= len(done) + 1, "an episode must be journalled before the next one ends"
    assert start_child(tmp_path, tasks, seconds=0.0).wait() == 0
    assert sorted(finished(tmp_path)) == sorted(f"t{n}" for n in range(tasks))
    resets = Counter((tmp_path / "resets").read_text().split())
    assert {resets[name] for name in done} == {1}
    assert set(resets) == {f"t{n}" for n in range(tasks)}
    assert sum(resets.values()) <= tasks + FakeEngine(up).slots, "only what was under way may be begun again"
