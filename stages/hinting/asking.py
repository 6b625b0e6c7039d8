"""Many conversations with a model at once, on whatever engine; every answer is kept, so that none is paid for twice.

A talk is a generator: it yields the messages to be answered, is sent the reply, and returns what came of it.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from stages.core.files import CACHE, atomic
from stages.core.process import Fault
from stages.core.records import Message
from stages.engines.base import Engine, EngineFault, Reply

ANSWERS = CACHE / "answers"

Result = TypeVar("Result")
Talk = Generator[list[Message], Reply, Result]


class Memory:
    """A model's answers on disk, a file each, named by all that determines one: `identity` (model and settings) and the messages. `room` is how many
    tokens a prompt may have."""

    def __init__(self, identity: Mapping[str, Any], room: int) -> None:
        self._identity, self._room = dict(identity), room

    def key(self, messages: Sequence[Message]) -> str:
        """Hex SHA-256 of what determines the answer."""
        asked = {**self._identity, "messages": [(m.role, m.content) for m in messages]}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def find(self, messages: Sequence[Message]) -> Reply | None:
        """The answer given before. A file that a power cut has left half-written is none, nor is the answer to a prompt that has no room any more."""
        try:
            found = Reply(session=0, **json.loads(self._path(messages).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return found if found.prompt_tokens <= self._room else None

    def keep(self, messages: Sequence[Message], reply: Reply) -> None:
        """Remember an answer. A prompt that did not fit is no answer: it cost nothing, and the window may grow."""
        if reply.finish in ("stop", "length"):
            plain = {name: value for name, value in asdict(reply).items() if name != "session"}
            with atomic(self._path(messages)) as temporary:
                temporary.write_text(json.dumps(plain), encoding="utf-8")

    def _path(self, messages: Sequence[Message]) -> Path:
        key = self.key(messages)
        return ANSWERS / key[:2] / f"{key}.json"


def converse(engine: Engine, memory: Memory, talks: Sequence[Talk[Result]]) -> list[Result]:
    """What came of each talk, in their order; as many requests are under way as the engine has slots.

    When a request failed for good (`EngineFault`), or a talk cannot go on (its own `Fault`), nothing more is asked; what is under way is waited for
    and kept, then the fault is raised.
    """
    results: dict[int, Result] = {}
    waiting: deque[tuple[int, list[Message]]] = deque()
    asked: dict[int, tuple[int, list[Message]]] = {}  # by session
    failure: Fault | None = None
    with tqdm(total=len(talks), desc="hints", unit="failure", disable=None) as bar:

        def go_on(number: int, reply: Reply | None) -> None:
            """Carry a talk on as far as its answers are known."""
            nonlocal failure
            try:
                while True:
                    messages = talks[number].send(reply)  # type: ignore[arg-type]  # None starts a generator
                    reply = memory.find(messages)
                    if reply is None:
                        waiting.append((number, messages))
                        return
            except StopIteration as end:
                results[number] = end.value
                bar.update()
            except Fault as fault:
                failure = failure or fault

        for number in range(len(talks)):
            go_on(number, None)
        while asked or (waiting and not failure):
            while waiting and not failure and len(asked) < engine.slots:
                number, messages = waiting.popleft()
                session = engine.open(int(memory.key(messages)[:12], 16))
                engine.submit(session, messages)
                asked[session] = (number, messages)
            for reply in engine.poll():
                number, messages = asked.pop(reply.session)
                engine.close(reply.session)
                if reply.finish == "fault":
                    failure = failure or EngineFault(reply.error)
                    continue
                memory.keep(messages, reply)
                go_on(number, reply)
    if failure:
        raise type(failure)(
            f"{failure}. The answers so far are kept in {ANSWERS}: run again to go on from there"
        ) from failure
    return [results[number] for number in range(len(talks))]
