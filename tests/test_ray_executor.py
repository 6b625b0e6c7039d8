"""Episodes on Ray: the same records as in this process, each once, whatever becomes of workers, driver and cluster."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # loopback only; read when Ray is imported

import ladder_on_ray
import pytest
import ray
import yaml
from ladder import FakeEngine, World, play, task, up
from ladder_on_ray import play_there
from official_games import game_of, goals
from ray.cluster_utils import Cluster
from structure import ROOT
from test_journal import finished, wait_for

from stages.cluster.ray import RayFault, share_of_cpus
from stages.core.params import Cell, parse
from stages.engines.base import Engine, EngineFault
from stages.envs.base import Task
from stages.envs.panel import write_panels
from stages.panelling.alfworld.generator import GAME_FILE, write_game
from stages.runner.study import Runner, System

pytest_plugins = ["tiny"]
pytestmark = pytest.mark.slow
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def two_cpus() -> Iterator[Cluster]:
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, "object_store_memory": 10**8}
    )
    yield cluster
    cluster.shutdown()


@pytest.fixture
def on_cluster(two_cpus: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", two_cpus.address)


def lines(path: Path) -> list[str]:
    return path.read_text().split()


def test_two_workers_make_the_records_of_one_process(tmp_path: Path, on_cluster: None) -> None:
    tasks = [task(n, steps=1 + n * 7 % 5) for n in range(24)]
    here = play(tmp_path / "here", tasks, World(), FakeEngine(up))
    assert play_there(tmp_path / "there", tasks, seconds=0.02) == here
    assert Counter(lines(tmp_path / "there" / "resets")) == dict.fromkeys((t.task_id for t in tasks), 1)
    assert len(set(lines(tmp_path / "there" / "pids"))) == 2, "both workers must have played"
    assert sorted(finished(tmp_path / "there")) == sorted(t.task_id for t in tasks)


def test_a_killed_workers_tasks_are_played_by_others(tmp_path: Path, on_cluster: None) -> None:
    tasks = [task(n, steps=3, **({"kills": 1} if n == 7 else {})) for n in range(20)]
    episodes = play_there(tmp_path, tasks, seconds=0.02)
    assert episodes == play(tmp_path / "here", tasks, World(), FakeEngine(up))
    assert sorted(finished(tmp_path)) == sorted(t.task_id for t in tasks), "each once, none lost"
    resets = Counter(lines(tmp_path / "resets"))
    assert resets["t7"] == 2 and set(resets.values()) == {1, 2}
    assert sum(resets.values()) <= len(tasks) + FakeEngine(up).slots, "only what the lost worker held is played again"


def test_a_task_that_keeps_losing_its_workers_is_the_machines_failure(tmp_path: Path, on_cluster: None) -> None:
    tasks = [task(0), task(1, kills=9), task(2)]
    episodes = play_there(tmp_path, tasks, open_engine=functools.partial(FakeEngine, up, 1))
    assert [e.success for e in episodes] == [True, False, True]
    assert (episodes[1].stop, episodes[1].turns) == ("machine", [])
    assert "2 Ray workers were lost while they played it" in episodes[1].machine_failure
    assert sorted(finished(tmp_path)) == ["t0", "t2"], "another run plays it again"


def test_a_killed_driver_goes_on_without_playing_a_finished_episode_again(tmp_path: Path, on_cluster: None) -> None:
    tasks = 40
    child = start_driver(tmp_path, tasks, seconds=0.05)
    wait_for(child, lambda: len(finished(tmp_path)) >= 5)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    done = finished(tmp_path)
    assert 5 <= len(done) < tasks, "the kill must come midway"
    assert start_driver(tmp_path, tasks, seconds=0.0).wait() == 0, "its workers must have made room"
    assert sorted(finished(tmp_path)) == sorted(f"t{n}" for n in range(tasks))
    resets = Counter(lines(tmp_path / "resets"))
    assert {resets[name] for name in done} == {1}
    assert set(resets) == {f"t{n}" for n in range(tasks)}


def start_driver(folder: Path, tasks: int, seconds: float) -> subprocess.Popen[bytes]:
    root = Path(__file__).parent.parent
    return subprocess.Popen(
        [sys.executable, ladder_on_ray.__file__, str(folder), str(tasks), str(seconds)],
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


class Broken(FakeEngine):
    def poll(self) -> Any:
        raise EngineFault("the server at 127.0.0.1:9 is down; start it")


def no_engine() -> Engine:
    raise EngineFault("cannot load the model x")


def no_process() -> Engine:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.parametrize(
    ("open_engine", "words"),
    [
        (functools.partial(Broken, up), "the server at 127.0.0.1:9 is down; start it"),
        (no_engine, "cannot load the model x"),
    ],
)
def test_a_workers_fault_arrives_in_its_own_words(
    tmp_path: Path, on_cluster: None, open_engine: Any, words: str
) -> None:
    with pytest.raises(EngineFault) as caught:
        play_there(tmp_path, [task(n) for n in range(4)], open_engine=open_engine)
    assert str(caught.value) == words


def test_workers_that_die_before_they_play_are_an_error(tmp_path: Path, on_cluster: None) -> None:
    with pytest.raises(RayFault, match="2 Ray workers in a row died before they could play"):
        play_there(tmp_path, [task(0)], open_engine=no_process)


def test_a_node_without_the_projects_data_is_named(tmp_path: Path, on_cluster: None) -> None:
    with pytest.raises(RayFault, match=r"nowhere: not there on Ray node .*shared file system"):
        play_there(tmp_path, [task(0)], root=tmp_path / "nowhere")


def test_more_workers_than_there_is_room_for_are_refused(tmp_path: Path, on_cluster: None) -> None:
    with pytest.raises(RayFault, match=r"asks for 3 workers .* has room for 2: ask for fewer"):
        play_there(tmp_path, [task(0)], workers=3)


def test_a_finished_journal_needs_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [task(n) for n in range(3)]
    here = play(tmp_path, tasks, World(), FakeEngine(up))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert play_there(tmp_path, tasks) == here


@pytest.mark.parametrize("address", ["127.0.0.1:{free}", "no.such.host.invalid:6379", "http://127.0.0.1:8265"])
def test_a_cluster_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, and nobody listens
        address = address.format(free=unused.getsockname()[1])
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(RayFault) as caught:
            play_there(tmp_path, [task(0)])
    assert address in str(caught.value) and "or unset it to play on this machine" in str(caught.value)


def test_without_ray_it_is_said_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RayFault, match=r"pip install '\.\[ray\]'"):
        play_there(tmp_path, [task(0)])


@pytest.fixture
def project(tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project folder with a tiny base model and a train panel of four ALFWorld games."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")  # compiling would take longer than all that is played here
    base, panels = Path("data/base/model"), Path("data/panels/alfworld")
    base.parent.mkdir(parents=True)
    base.symlink_to(tiny_llama)
    (base / "identity.json").write_text(json.dumps({"source": "tiny", "weights_sha256": "ab" * 32}), encoding="utf-8")
    tasks = []
    for number, goal in enumerate(goals("put", 2) + goals("heat", 2)):
        game = game_of(goal)
        spec = {
            "game": str(write_game(panels, game).relative_to(panels)),
            "sha256": hashlib.sha256(game.files[GAME_FILE].encode()).hexdigest(),
        }
        tasks.append(Task(f"game-{number}", "alfworld", "train", "put" if number < 2 else "heat", game.sentence, spec))
    write_panels(panels, "alfworld", "generated", {"train": tasks})


def test_a_stage_makes_the_same_records_on_this_machines_own_cluster(
    project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # workers start in the project's folder, which holds no code here
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["engine"] |= {"dtype": "float32", "slots": 3, "max_new_tokens": 24, "context": 2000}
    values["runner"]["max_turns"]["alfworld"] = 4
    runs = {}
    for executor in ("local", "ray"):
        values["runner"]["executor"] = executor
        runner = Runner(parse(values, "test"), Cell("alfworld_react"), System("base"))
        runs[executor], facts = runner.play("train")
        assert (facts["episodes"], facts["resumed"], facts["machine_failures"]) == (4, 0, 0)
        runner.write(Path(f"data/{executor}"), "rollouts", runs[executor], facts)
    assert runs["ray"] == runs["local"]


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "cpus"),
    [
        ([(8, 0)], 2, 0, 4),
        ([(8, 0)], 3, 0, 2),
        ([(8, 0), (8, 0)], 3, 0, 4),  # 16 // 3 would leave the third without a node
        ([(2, 0), (16, 0)], 2, 0, 8),
        ([(16, 4), (16, 0)], 2, 2, 8),  # both beside the GPUs
    ],
)
def test_every_worker_finds_room_on_one_node(nodes: Any, workers: int, gpus: int, cpus: int) -> None:
    assert share_of_cpus(nodes, workers, gpus, "here") == cpus


def test_gpus_bound_the_workers() -> None:
    with pytest.raises(RayFault, match="asks for 3 workers with a CPU and 2 GPUs each, and here has room for 2"):
        share_of_cpus([(16, 4)], 3, 2, "here")
