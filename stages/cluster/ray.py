"""Plays tasks on a Ray cluster: workers with an engine and environments of their own, and one driver that deals and keeps the journal.

The cluster is the one that RAY_ADDRESS names; without it, one is started on this machine, on its loopback interface, and ends with the stage.
Workers find the project's code and data in the directory that the driver runs in, which must be there on every node (a shared file system).
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stages.agents.base import Agent
from stages.core.process import Fault
from stages.core.records import Episode
from stages.engines.base import Engine
from stages.envs.base import Environment, Task
from stages.retrieval.retriever import Retriever
from stages.runner.episodes import ATTEMPTS, Play, Rollout, collect
from stages.runner.journal import Journal

ADDRESS = "RAY_ADDRESS"
_CONNECT = 10.0  # seconds for a TCP connection to the cluster's head
_PATIENCE = 60.0  # seconds without a worker, after which it is said what is waited for
_STORE = (
    128 * 2**20
)  # bytes of a local cluster's object store, of which Ray else takes 30 % of the memory; episodes are small


class RayFault(Fault, RuntimeError):
    """Ray or its cluster is not as `runner.executor: ray` needs it: says what was found and what to do."""


@dataclass(frozen=True)
class Cast:
    """All that a worker needs to play, sent to it by cloudpickle; `root` is the panels' folder, which it must find."""

    play: Play
    agent: Agent
    open_engine: Callable[[], Engine]
    make_env: Callable[[], Environment]
    category: Callable[[Task], str]
    retriever: Retriever
    root: Path


def play_on_ray(tasks: Sequence[Task], cast: Cast, journal: Journal, workers: int, gpus: int) -> list[Episode]:
    """As `play_tasks`, by `workers` actors with `gpus` GPUs each.

    A lost worker's unfinished tasks are played again by others; a task that loses its worker `ATTEMPTS` times is the machine's failure. What
    a worker raises is raised here. Raises `RayFault` for a cluster that is not there, has no room, or whose workers do not start.
    """

    def episodes(waiting: list[Task]) -> Iterator[Episode]:
        if waiting:
            with cluster() as (ray, address):
                yield from _Crew(ray, cast, journal.key, address, workers, gpus).episodes(waiting)

    return collect(tasks, cast.play, journal, episodes)


@contextmanager
def cluster() -> Iterator[tuple[Any, str]]:
    """The module `ray`, connected to the cluster, and what that is called in messages."""
    check_installed()
    address = os.environ.get(ADDRESS, "")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local: dict[str, Any] = {}
    if address:
        check_address(address)
        # One attempt, of 41 s, where something else than Ray answers; Ray would make 20.
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    else:
        # Ray's switch for "this machine alone", under any system: its ports are then on the loopback interface only.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        local = {"include_dashboard": False, "object_store_memory": _STORE}
    ray: Any = importlib.import_module("ray")  # not before the environment is set: Ray reads it once
    named = f"the cluster at {address}" if address else "this machine"
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise RayFault(f"Ray cannot use {named}: {error}; {_advice(address)}") from error
    try:
        yield ray, named
    finally:
        ray.shutdown()


def check_installed() -> None:
    """Raises `RayFault` where Ray is missing."""
    if importlib.util.find_spec("ray") is None:
        raise RayFault("runner.executor is ray, and Ray is not installed: pip install '.[ray]', or set it to local")


def check_address(address: str) -> None:
    """Raises `RayFault` unless something accepts connections at `address` (`host:port`; Ray looks for `auto` itself)."""
    if address == "auto":
        return
    parts = re.fullmatch(r"\[?([^\[\]/]+)\]?:(\d{1,5})", address)
    if not parts:
        raise RayFault(f"{ADDRESS} is {address!r}: expected host:port of a cluster's head, or auto; {_advice(address)}")
    try:
        socket.create_connection((parts[1], int(parts[2])), timeout=_CONNECT).close()
    except (OSError, OverflowError) as error:
        raise RayFault(f"no Ray cluster answers at {ADDRESS} {address} ({error}); {_advice(address)}") from error


def _advice(address: str) -> str:
    if not address:
        return f"look into /tmp/ray/session_latest/logs, or set {ADDRESS} to a running cluster"
    return (
        f"start one there (`ray start --head --port=6379`), or correct {ADDRESS}, or unset it to play on this machine"
    )


class Worker:
    """An actor: plays the tasks it is handed, as many at once as its engine has slots."""

    def __init__(self, cast: Cast, key: str, folder: Path, threads: int) -> None:
        """`key` is the journal's; `folder` the project's root on every node; `threads` the CPUs that torch may use."""
        self.cast, self.key, self.folder, self.threads = cast, key, folder, threads
        self.waiting: list[Task] = []

    def open(self) -> int:
        """Open the engine; how many slots it has. Raises `RayFault` where the project is not."""
        panels = self.folder / self.cast.root
        if not panels.is_dir():
            raise RayFault(
                f"{panels}: not there on Ray node {socket.gethostname()}; every node must have the project and its data at the same "
                "path (a shared file system)"
            )
        os.chdir(self.folder)
        cast = self.cast
        engine = cast.open_engine()
        if (
            "torch" in sys.modules
        ):  # which an engine on a server does without; Ray's own way yields to an OMP_NUM_THREADS that is set
            sys.modules["torch"].set_num_threads(self.threads)
        self.rollout = Rollout(cast.play, cast.agent, engine, cast.make_env, cast.category, cast.retriever, self.key)
        return engine.slots

    def play(self, tasks: list[Task], failures: dict[str, str]) -> list[Episode]:
        """Take on more tasks and play until at least one episode ends. Those that `failures` names are not played, but recorded."""
        ended = [self.rollout.unplayed(task, failures[task.task_id]) for task in tasks if task.task_id in failures]
        self.waiting += [task for task in tasks if task.task_id not in failures]
        while not ended:
            ended = self.rollout.advance(self.waiting)
        return ended


@dataclass
class _Seat:
    """A worker as the driver sees it: `slots` is 0 until its engine is open, `held` are its unfinished tasks."""

    actor: Any
    slots: int = 0
    held: dict[str, Task] = field(default_factory=dict)


class _Crew:
    """The workers, each with one call under way or nothing to do."""

    def __init__(self, ray: Any, cast: Cast, key: str, address: str, workers: int, gpus: int) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus = share_of_cpus([(int(n.get("CPU", 0)), int(n.get("GPU", 0))) for n in nodes], workers, gpus, address)
        self.make: Any = ray.remote(num_cpus=cpus, num_gpus=gpus)(Worker)
        self.ray, self.workers = ray, workers
        self.given = (cast, key, Path.cwd(), cpus)
        self.room = f"{cpus} CPUs and {gpus} GPUs of {address}"
        self.calls: dict[Any, _Seat] = {}
        self.idle: list[_Seat] = []
        self.losses: Counter[str] = Counter()
        self.failures: dict[str, str] = {}
        self.dead_starts = 0

    def episodes(self, waiting: list[Task]) -> Iterator[Episode]:
        """Play all tasks of `waiting`, which empties; episodes come as they end."""
        for _ in range(self.workers):
            self._seat()
        unfinished = len(waiting)
        while unfinished:
            self._deal(waiting)
            for episode in self._next(waiting):
                unfinished -= 1
                yield episode

    def _seat(self) -> None:
        """Start a worker, which opens its engine."""
        seat = _Seat(self.make.remote(*self.given))
        self.calls[seat.actor.open.remote()] = seat

    def _deal(self, waiting: list[Task]) -> None:
        """Hand out tasks to those who wait: no more than a worker has slots, and no more than its share of what is left."""
        held = [seat.held for seat in (*self.idle, *self.calls.values())]
        share = -(-(len(waiting) + sum(map(len, held))) // self.workers)
        for seat in self.idle:
            room = min(seat.slots, share) - len(seat.held)
            tasks = [waiting.pop() for _ in range(min(room, len(waiting)))]
            seat.held |= {task.task_id: task for task in tasks}
            if seat.held:
                self.calls[seat.actor.play.remote(tasks, self.failures)] = seat
        self.idle = [seat for seat in self.idle if not seat.held]

    def _next(self, waiting: list[Task]) -> list[Episode]:
        """What the next worker that has something to say brings: episodes, an open engine, or its loss."""
        done, _ = self.ray.wait(list(self.calls), num_returns=1, timeout=_PATIENCE)
        if not done and not any(seat.slots for seat in self.calls.values()):
            tqdm.write(f"no worker has started yet: each needs {self.room} free, and an open engine", file=sys.stderr)
        episodes: list[Episode] = []
        for call in done:
            seat = self.calls.pop(call)
            try:
                result = self.ray.get(call)
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except self.ray.exceptions.RayError as error:
                self._lose(seat, error, waiting)
                continue
            self.idle.append(seat)
            if seat.slots:
                episodes += result
                for episode in result:
                    del seat.held[episode.task_id]
            else:
                seat.slots, self.dead_starts = result, 0
        return episodes

    def _lose(self, seat: _Seat, error: Exception, waiting: list[Task]) -> None:
        """Put another worker in a lost one's place, and its tasks back to those that wait."""
        reason = str(error).strip().splitlines()[-1][:200]
        if not seat.slots:
            self.dead_starts += 1
            if self.dead_starts == ATTEMPTS:
                raise RayFault(f"{ATTEMPTS} Ray workers in a row died before they could play: {reason}")
        tqdm.write(f"a Ray worker was lost; its {len(seat.held)} tasks are played again: {reason}", file=sys.stderr)
        self.ray.kill(seat.actor)  # where only the connection was lost, it must not play on
        for name, task in seat.held.items():
            self.losses[name] += 1
            if self.losses[name] == ATTEMPTS:
                self.failures[name] = (
                    f"{ATTEMPTS} Ray workers were lost while they played it, the last one so: {reason}"
                )
            waiting.append(task)
        self._seat()


def share_of_cpus(nodes: Sequence[tuple[int, int]], workers: int, gpus: int, address: str) -> int:
    """CPUs for each worker: as many as leave room for all of them. `nodes` are (CPUs, GPUs); a worker stays on one node.

    Raises `RayFault` when there is no room even with one CPU each.
    """

    def room(share: int) -> int:
        return sum(min(cpus // share, there // gpus if gpus else workers) for cpus, there in nodes)

    for share in range(max((cpus for cpus, _ in nodes), default=0), 0, -1):
        if room(share) >= workers:
            return share
    raise RayFault(
        f"runner.ray.workers asks for {workers} workers with a CPU{f' and {gpus} GPUs' if gpus else ''} each, and {address} has room for "
        f"{room(1)}: ask for fewer, or start more nodes"
    )
