"""Rollouts over a server: every task has exactly one episode, however the server behaves."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_server import BROKEN, CLOSE, FakeServer, Say, make, said_by, serving
from ladder import CODE, IDENTITY, World, play, task, up

from stages.engines.base import EngineFault
from stages.runner.journal import Journal


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as server:
        yield server


def test_every_task_has_one_episode_whatever_the_server_does(server: FakeServer, tmp_path: Path) -> None:
    faults = [*BROKEN.values(), Say(400, "no")]
    healthy, tries = said_by(up), Counter[str]()
    lock = threading.Lock()

    def moody(body: dict[str, Any]) -> Say | str:
        """Faults by request and try, so that they don't depend on who comes first."""
        with lock:
            request = json.dumps(body)
            tries[request] += 1
            draw = random.Random(f"{request}|{tries[request]}")
        return draw.choice(faults) if draw.random() < 0.5 else healthy(body)

    server.answer = moody
    tasks = [task(n, steps=1 + n % 4) for n in range(24)]
    first = play(tmp_path, tasks, World(), make(server, slots=4, retries=2, max_new_tokens=40))
    assert [e.task_id for e in first] == [t.task_id for t in tasks]
    failed = [e.task_id for e in first if e.machine_failure]
    assert 0 < len(failed) < 12 and max(tries.values()) > 1
    assert all(
        e.success and e.steps == t.spec["steps"] for e, t in zip(first, tasks, strict=True) if not e.machine_failure
    )
    assert all(e.stop == "machine" and not e.turns for e in first if e.machine_failure)
    assert server.most <= 4
    with Journal(tmp_path, IDENTITY, CODE) as journal:
        assert sorted(journal.finished) == sorted({t.task_id for t in tasks} - {*failed})

    server.answer = healthy
    world = World()
    second = play(tmp_path, tasks, world, make(server, slots=4, max_new_tokens=40))
    assert sorted(world.resets) == sorted(failed), "what the machine broke is played again, and nothing else"
    assert [e.task_id for e in second] == [t.task_id for t in tasks] and all(e.success for e in second)
    assert [e for e in second if e.task_id not in failed] == [e for e in first if not e.machine_failure]


def test_a_run_that_the_server_left_goes_on_with_what_is_missing(server: FakeServer, tmp_path: Path) -> None:
    tasks = [task(n, steps=1) for n in range(6)]
    healthy = said_by(up)

    def four_then_none(body: dict[str, Any]) -> Say | str:
        return healthy(body) if len(server.bodies) <= 4 else CLOSE

    server.answer = four_then_none
    with pytest.raises(EngineFault, match="3 requests in a row failed"):
        play(tmp_path, tasks, World(), make(server, slots=1, retries=0))
    server.answer = healthy
    world = World()
    episodes = play(tmp_path, tasks, world, make(server, slots=1))
    assert world.resets == ["t4", "t5"] and len(episodes) == 6 and all(e.success for e in episodes)
