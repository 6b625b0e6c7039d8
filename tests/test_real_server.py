"""The engine for servers against a real one, `transformers serve`, that serves a real (tiny) model: it says what the embedded engine says."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from talks import converse

from stages.engines.base import EngineFault, Reply
from stages.engines.cpu import CpuEngine
from stages.engines.server import ServerEngine
from stages.params import Server
from stages.records import Message

pytest_plugins = ["tiny"]
pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {"slots": 3, "context": 512, "max_new_tokens": 16, "temperature": 0.0, "stop": ()}


@dataclass(frozen=True)
class Served:
    """A running server: its settings, and the folder of the model that it serves as tiny/base."""

    settings: Server
    base: Path
    process: subprocess.Popen[bytes]


def cached(hub: Path, base: Path) -> None:
    """The model as it stands in the hub's cache, which is all that the server lists."""
    repository, commit = hub / "models--tiny--base", "0" * 40
    shutil.copytree(base, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)


@pytest.fixture(scope="module")
def served(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    hub = tmp_path_factory.mktemp("hub")
    cached(hub, tiny_llama)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "transformers", "serve", "tiny/base", "--host", "127.0.0.1"]
    options = ["--port", str(port), "--device", "cpu", "--dtype", "float32"]
    log = hub / "log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, *options],
            env={**os.environ, "HF_HUB_CACHE": str(hub), "HF_HUB_OFFLINE": "1"},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    settings = Server(url=f"http://127.0.0.1:{port}/v1", model=None, key_variable="NO_SUCH_KEY", timeout=60, retries=1)
    try:
        for _ in range(240):
            assert process.poll() is None, log.read_text()
            try:
                httpx.get(f"{settings.url}/models")
                break
            except httpx.ConnectError:
                time.sleep(0.5)
        yield Served(settings, tiny_llama, process)
    finally:
        process.kill()
        process.wait()


def facts(talks: Sequence[Sequence[Reply]]) -> list[list[tuple[str, str, int, int]]]:
    return [[(r.text, r.finish, r.prompt_tokens, r.reply_tokens) for r in talk] for talk in talks]


def embedded(served: Served, **changes: Any) -> CpuEngine:
    return CpuEngine(served.base, None, dtype="float32", **{**SETTINGS, **changes})


def remote(served: Served, **changes: Any) -> ServerEngine:
    return ServerEngine(served.settings, None, **{**SETTINGS, **changes})


def test_it_says_what_the_embedded_engine_says(served: Served) -> None:
    engine = remote(served)
    assert engine.name == "server:tiny/base"
    replies = converse(engine)
    assert facts(replies) == facts(converse(embedded(served)))
    assert {r.finish for talk in replies for r in talk} == {"stop", "length"}
    assert all(r.computed_tokens == r.prompt_tokens for talk in replies for r in talk), "it keeps no prefix"

    stop = replies[0][0].text[3:6]
    cut = converse(remote(served, stop=(stop,)))
    assert facts(cut) == facts(converse(embedded(served, stop=(stop,))))
    assert (cut[0][0].text, cut[0][0].finish) == (replies[0][0].text[:3], "stop")


def test_the_window_ends_where_the_embedded_engines_does(served: Served) -> None:
    long = ["You are in the middle of a room. " * 4] * 5

    def until_full(engine: Any) -> list[tuple[str, str, int]]:
        session, spoken, seen = engine.open(0), [Message("system", "You act.")], []
        for said in long:
            spoken.append(Message("user", said))
            engine.submit(session, spoken)
            [reply] = engine.poll()
            seen.append((reply.text, reply.finish, reply.prompt_tokens))
            spoken.append(Message("assistant", reply.text))
            if reply.finish == "context":
                break
        return seen

    seen = until_full(remote(served))
    assert seen == until_full(embedded(served))
    assert len(seen) > 1 and seen[-1][:2] == ("", "context")


def test_another_model_is_not_taken_for_it(served: Served) -> None:
    with pytest.raises(EngineFault, match="does not serve 'student'; its models: tiny/base"):
        ServerEngine(served.settings, Path("data/students/student/adapter"), **SETTINGS)


def test_a_server_that_dies_is_noticed(served: Served) -> None:
    """Last, for it ends the server."""

    async def no_pause(seconds: float) -> None:
        """The server does not come back."""

    engine = remote(served, pause=no_pause)
    served.process.kill()
    served.process.wait()
    engine.submit(engine.open(0), [Message("user", "Hi.")])
    with pytest.raises(EngineFault, match=r"the server is gone: .*; start it and run again"):
        engine.poll()
