"""The engine for servers against a real one, `transformers serve`, that serves a real (tiny) model: it says what the embedded engine says."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from candidates.servers import MODEL, transformers_serve
from talks import converse

from stages.core.records import Message
from stages.core.sections import Server
from stages.engines.base import EngineFault, Reply
from stages.engines.cpu import CpuEngine
from stages.engines.server import ServerEngine

pytest_plugins = ["tiny"]
pytestmark = pytest.mark.slow

SETTINGS: dict[str, Any] = {"slots": 3, "context": 512, "max_new_tokens": 16, "temperature": 0.0, "stop": ()}


@dataclass(frozen=True)
class Served:
    """A running server, its settings, and the folder of the model that it serves."""

    settings: Server
    base: Path
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def served(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with transformers_serve(tiny_llama, tmp_path_factory.mktemp("server"), torch.float32) as running:
        settings = Server(
            url=running.url, model=None, student="{name}", key_variable="NO_SUCH_KEY", timeout=60, retries=1
        )
        yield Served(settings, tiny_llama, running.process)


def facts(talks: Sequence[Sequence[Reply]]) -> list[list[tuple[str, str, int, int]]]:
    return [[(r.text, r.finish, r.prompt_tokens, r.reply_tokens) for r in talk] for talk in talks]


def embedded(served: Served, **changes: Any) -> CpuEngine:
    return CpuEngine(served.base, None, dtype="float32", **{**SETTINGS, **changes})


def remote(served: Served, **changes: Any) -> ServerEngine:
    return ServerEngine(served.settings, None, **{**SETTINGS, **changes})


def test_it_says_what_the_embedded_engine_says(served: Served) -> None:
    engine = remote(served)
    assert engine.name == f"server:{MODEL}"
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
    with pytest.raises(EngineFault, match=f"does not serve 'student'; its models: {MODEL}"):
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
