"""A small OpenAI-compatible server on loopback that breaks when it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stages.core.records import Message
from stages.core.sections import Server
from stages.engines.base import EngineFault, Reply
from stages.engines.server import ServerEngine

ASK = [Message("system", "You act."), Message("user", "You see a box 1.")]
STUDENT = Path("data/students/alfworld_react_sft_s0/adapter")
KEY = "sk-secret-0123456789"
SETTINGS: dict[str, Any] = {"slots": 3, "context": 512, "max_new_tokens": 16, "temperature": 0.0, "stop": ("\nObs",)}


@dataclass(frozen=True)
class Say:
    """An answer as it stands: status, body, headers."""

    status: int
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()


CLOSE, HANG = "close", "hang"  # without an answer: the connection is closed; nothing comes until the server stops


BROKEN = {
    "busy": Say(429, "later"),
    "broken": Say(500, "oh"),
    "loading": Say(503, "loading"),
    "closed connection": CLOSE,
    "no JSON": Say(200, "<html>welcome</html>"),
    "half": Say(200, '{"choices": [{"mess'),
    "no choices": Say(200, json.dumps({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})),
    "no usage": Say(200, json.dumps({"choices": [{"message": {"content": "a"}}]})),
    "an error in disguise": Say(200, json.dumps({"error": {"message": "overloaded"}})),
}
"""What a broken server says; each may pass."""


def chat(
    text: Any, finish: str | None = "stop", prompt: int = 10, reply: int = 4, message: Any = None, **details: Any
) -> Say:
    """A chat completion with these token counts; `message` has what stands beside the text, `details` what stands in usage."""
    said = {"role": "assistant", "content": text, **(message or {})}
    choice = {"index": 0, "message": said, "finish_reason": finish}
    usage = {"prompt_tokens": prompt, "completion_tokens": reply, "total_tokens": prompt + reply, **details}
    return Say(200, json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}))


def weighed(text: str, logprob: float) -> Say:
    """A chat completion of one token, with its log-probability and another's."""
    likely = [{"token": token, "logprob": value} for token, value in ((text, logprob), ("other", -9.0))]
    choice = {
        "message": {"content": text},
        "finish_reason": "stop",
        "logprobs": {"content": [{**likely[0], "top_logprobs": likely}]},
    }
    usage = {"prompt_tokens": 10, "completion_tokens": 1}
    return Say(200, json.dumps({"choices": [choice], "usage": usage}))


def words(text: str) -> int:
    return len(text.split())


def said_by(answer: Callable[[Sequence[Message]], str]) -> Callable[[dict[str, Any]], Say]:
    """Chat completions whose text `answer` makes of the conversation; tokens are words."""

    def completion(body: dict[str, Any]) -> Say:
        messages = [Message(m["role"], m["content"]) for m in body["messages"]]
        text = answer(messages)
        return chat(text, prompt=sum(words(m.content) for m in messages), reply=words(text))

    return completion


class FakeServer:
    """Answers each chat request with the next of `script`, and all later ones as `answer` says; those for log-probabilities as `weigh` says of
    the model. `bodies` are the requests, `probes` those for log-probabilities, `most` how many there were at a time, `keys` the Authorization
    headers."""

    def __init__(self) -> None:
        self.models: Say = Say(200, json.dumps({"object": "list", "data": [{"id": "tiny"}]}))
        self.script: list[Say | str] = []
        self.answer: Callable[[dict[str, Any]], Say | str] = said_by(lambda messages: "Action: look")
        self.weigh: Callable[[str], Say] = lambda model: weighed("Think", -0.5 if model == "tiny" else -0.9)
        self.bodies: list[dict[str, Any]] = []
        self.probes: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.most = self.now = 0
        self.stopped = threading.Event()
        self._lock = threading.Lock()

    def serve_models(self, *names: str, **more: Any) -> None:
        self.models = Say(200, json.dumps({"data": [{"id": name, **more} for name in names]}))

    def take(self, body: dict[str, Any]) -> Say | str:
        if body.get("logprobs"):
            self.probes.append(body)
            return self.weigh(body["model"])
        with self._lock:
            self.bodies.append(body)
            self.now += 1
            self.most = max(self.most, self.now)
            planned = self.script.pop(0) if self.script else None
        said = planned or self.answer(body)
        if said == HANG:
            self.stopped.wait()
        with self._lock:
            self.now -= 1
        return said

    def settings(self, **changes: Any) -> Server:
        values = {"url": self.url, "model": None, "student": "{name}", "key_variable": "TEST_KEY", "timeout": 5.0}
        return Server(**{**values, "retries": 2, **changes})

    def start(self) -> None:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def serving() -> Iterator[FakeServer]:
    server = FakeServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _handler(server: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(server.models if self.path == "/v1/models" else Say(404, "no such route"))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = server.take(body) if self.path == "/v1/chat/completions" else Say(404, "no such route")
            if isinstance(said, str) or server.stopped.is_set():
                self.close_connection = True
            else:
                self._send(said)

        def _send(self, said: Say) -> None:
            server.keys.add(self.headers["Authorization"])
            content = said.body.encode()
            self.send_response(said.status)
            for name, value in (*said.headers, ("Content-Length", str(len(content)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    return Handler


class Pauses(list[float]):
    """Takes down how long it should have waited, and does not."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


def make(server: FakeServer, adapter: Path | None = None, **changes: Any) -> ServerEngine:
    ours = {key: changes.pop(key) for key in [*changes] if key not in ("pause", "base", *SETTINGS)}
    return ServerEngine(server.settings(**ours), adapter, **{"pause": Pauses(), **SETTINGS, **changes})


def ask(engine: ServerEngine, seed: int = 0) -> Reply:
    session = engine.open(seed)
    engine.submit(session, ASK)
    [reply] = engine.poll()
    engine.close(session)
    assert reply.session == session
    return reply


def fault_of(server: FakeServer, adapter: Path | None = None, **changes: Any) -> str:
    """What the engine says when it gives up, at its opening or at the first request."""
    with pytest.raises(EngineFault) as caught:
        ask(make(server, adapter, **changes))
    return str(caught.value)
