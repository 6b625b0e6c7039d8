"""What an agent is: a prompt in typed parts, and a reader of replies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from stages.records import Message

_ACTION = re.compile(r"^[^\S\n]*Action:([^\n]*)", re.M)


@dataclass(frozen=True)
class Prompt:
    """The start of an episode, in parts, so that removing hints is dropping a part and not cutting text."""

    instructions: str
    hints: tuple[str, ...]
    opening: str

    def messages(self) -> list[Message]:
        """System message (instructions, then the hint block if any hint is there) and the opening observation."""
        block = "".join(f"\n- {hint}" for hint in self.hints)
        system = f"{self.instructions}\nHints:{block}" if block else self.instructions
        return [Message("system", system), Message("user", self.opening)]


@dataclass(frozen=True)
class Decision:
    """A reply, read: `action` is empty when there was none to be found."""

    thought: str
    action: str


class Agent(Protocol):
    """One way of prompting: stateless, the same for an instruct model and for the warmed-up embedded one."""

    @property
    def name(self) -> str: ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings at which a reply ends, so that no model writes the observation itself."""
        ...

    def prompt(self, env: str, opening: str, hints: tuple[str, ...]) -> Prompt: ...

    def parse(self, reply: str) -> Decision: ...

    def render(self, thought: str, action: str, state: Mapping[str, str]) -> str:
        """The reply that `parse` reads back as this thought and action. `state` is what the demonstrator knows of itself, by the name of the
        line that an agent with a state would say it in."""
        ...


def first_action(reply: str) -> re.Match[str] | None:
    """The first line of a reply that begins with `Action:`; its group 1 is what follows."""
    return _ACTION.search(reply)
