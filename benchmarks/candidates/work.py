"""The work: recorded conversations played again, the same for every engine.

A conversation is a demonstration's instructions, opening and observations. The engine's own replies stand between them, each of exactly `REPLY`
tokens, whatever they say (see `models.never_ending`); the next observation is the recorded one. So all engines encode and write the same
numbers of tokens at the same places, even if their number formats make them choose other words.

What follows the end that a reply would have had is no agent's text, so the embedded engine's guesses at it may fare better or worse than in
real episodes; those are what rollout.py measures.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.core.records import Demo, Message, read
from stages.engines.base import Engine

DEMOS = Path("data/demos/alfworld/react.parquet")
REPLY = 32  # tokens; a demonstration's reply has 34 on average
CONTEXT = 2048


@dataclass(frozen=True)
class Recorded:
    """What is said to the agent, in order: the opening, then an observation a turn."""

    opening: list[Message]
    observations: list[Message]


@dataclass(frozen=True)
class Done:
    """What the work took. Processor seconds are summed over threads; `encoded` and `written` are tokens, the former those
    that the prompts gained, so that an engine that encodes a prefix again or shares one has the same number."""

    wall_seconds: float
    processor_seconds: float
    turns: int
    encoded: int
    written: int
    first_replies: list[str]


def recorded(conversations: int, turns: int, offset: int = 0) -> list[Recorded]:
    """Evenly spaced demonstrations from number `offset` on, each cut after `turns` replies."""
    demos = [demo for demo in read(DEMOS, Demo) if demo.kind != "nonce"]
    found = []
    for demo in demos[offset :: len(demos) // conversations][:conversations]:
        first = next(n for n, message in enumerate(demo.messages) if message.role == "assistant")
        later = [message for message in demo.messages[first:-1] if message.role == "user"]
        found.append(Recorded(demo.messages[:first], later[: turns - 1]))
    return found


def play(engine: Engine, work: Sequence[Recorded]) -> Done:
    """Play all conversations at once."""
    start, before = time.perf_counter(), _processor_seconds()
    said = {engine.open(number): list(record.opening) for number, record in enumerate(work)}
    coming = dict(zip(said, (iter(record.observations) for record in work), strict=True))
    lengths = dict.fromkeys(said, 0)
    first: dict[int, str] = {}
    turns = encoded = written = 0
    for session, messages in said.items():
        engine.submit(session, messages)
    while said:
        for reply in engine.poll():
            session = reply.session
            turns += 1
            written += reply.reply_tokens
            encoded += reply.prompt_tokens - lengths[session]
            lengths[session] = reply.prompt_tokens + reply.reply_tokens
            first.setdefault(session, reply.text)
            observation = next(coming[session], None)
            if observation is None:
                engine.close(session)
                del said[session]
            else:
                said[session] += [Message("assistant", reply.text), observation]
                engine.submit(session, said[session])
    return Done(
        time.perf_counter() - start,
        _processor_seconds() - before,
        turns,
        encoded,
        written,
        [first[s] for s in sorted(first)],
    )


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
