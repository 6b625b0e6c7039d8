"""What an engine is: many conversations at once, each keeping its encoded prefix from turn to turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from stages.core.process import Fault
from stages.core.records import Message


class EngineFault(Fault, RuntimeError):
    """The engine failed (a model that does not load, a server that is down): never the agent's failure."""


@dataclass(frozen=True)
class Reply:
    """What a session answered. `finish` is `stop`, `length` (cut at the token limit), `context` (the prompt and a reply no
    longer fit the window; `text` is empty) or `fault` (this session's request failed, as `error` says, while the engine goes on with
    others; `text` is empty). `prompt_tokens` is the whole prompt, `computed_tokens` what of it was encoded for this turn and not kept
    from earlier ones."""

    session: int
    text: str
    finish: str
    prompt_tokens: int
    computed_tokens: int
    reply_tokens: int
    error: str = ""


class Engine(Protocol):
    """Sessions are opened, given messages, polled for replies, closed. At most `slots` are open at a time."""

    @property
    def slots(self) -> int: ...

    @property
    def name(self) -> str:
        """Engine and number format (of a server: the model's name there), as it stands in records."""
        ...

    def open(self, seed: int) -> int:
        """A new session; `seed` fixes its draws when the temperature is above 0."""
        ...

    def submit(self, session: int, messages: Sequence[Message]) -> None:
        """The whole conversation so far, ending with a user message. Earlier turns must be as they were."""
        ...

    def poll(self) -> list[Reply]:
        """Work until at least one submitted session has its reply; all that are ready, none twice."""
        ...

    def close(self, session: int) -> None: ...
