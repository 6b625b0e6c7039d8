"""What an agent is: a prompt in typed parts, and a reader of replies.

A conversation is laid out the same way for all agents: the system message, worked examples if there are any, the opening as a user
message; then each reply as an assistant message and each observation, as the environment gave it, as a user message.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from stages.agents.reading import Reading, read
from stages.agents.shots import Shot
from stages.core.records import Message
from stages.core.spec import Interface
from stages.core.thinking import aloud

MAX_ACTION = 1000
"""Characters an action may have. The longest that ALFWorld or WebShop takes is a search of a whole instruction."""

_NEXT = "A new task begins."
_HINTS = "Hints from earlier tasks. Use them silently, never quote them."


@dataclass(frozen=True)
class Prompt:
    """The start of an episode, in parts, so that removing hints is dropping a part and not cutting text."""

    instructions: str
    hints: tuple[str, ...]
    shots: tuple[Message, ...]
    opening: str

    def messages(self) -> list[Message]:
        """System message (instructions, then the hint block if any hint is there), the examples, and the opening observation,
        users and assistants taking turns."""
        block = "".join(f"\n- {hint}" for hint in self.hints)
        system = f"{self.instructions}\n{_HINTS}{block}" if block else self.instructions
        messages = [Message("system", system)]
        for message in (*self.shots, Message("user", self.opening)):
            last = messages[-1]
            # Chat templates want users and assistants to take turns: an example's end and the next opening are one message.
            if message.role == last.role:
                messages[-1] = Message(last.role, f"{last.content}\n\n{_NEXT}\n\n{message.content}")
            else:
                messages.append(message)
        return messages


@dataclass(frozen=True)
class Decision:
    """A reply, read. `state` are the lines that an agent says of itself, by their names; `action` is empty when the reply is unreadable,
    and `fault` then says why: `no_action` (no such line), `empty_action`, `long_action` (over `MAX_ACTION` characters) or
    `control_characters`."""

    thought: str
    action: str
    state: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""


@dataclass(frozen=True)
class Agent:
    """One way of prompting in one environment: stateless, the same for an instruct model with examples and for the warmed-up embedded one.

    A reply is a line a label, `Action:` the last; `lines` are those before it, each with what it says (empty where the label says enough).
    `reading` says which departures from that are still read (see `stages.agents.reading`).
    """

    name: str
    interface: Interface
    lines: Mapping[str, str]
    reading: Reading = "loose"

    @property
    def stop(self) -> tuple[str, ...]:
        """The strings at which a reply ends, so that no model writes the observation itself, or a second reply."""
        return ("\nObservation:", f"\n{next(iter(self.lines), 'Action')}:")

    @property
    def form(self) -> str:
        """What a reply is made of, in words."""
        holds = f", which holds {self.interface.actions}" if self.interface.actions else ""
        if len(self.lines) < 2:
            return " and ".join(f"one line '{label}:'" for label in (*self.lines, "Action")) + holds
        said = ", ".join(f"'{label}:'" + (f" ({says})" if says else "") for label, says in self.lines.items())
        return f"{_number(len(self.lines) + 1)} lines: {said} and 'Action:'{holds}"

    def prompt(self, opening: str, hints: Sequence[str], shots: Sequence[Shot] = ()) -> Prompt:
        """The parts of an episode's first prompt; examples are written in this agent's form."""
        instructions = f"{self.interface.setting} Each turn, reply with {self.form}."
        examples = [message for shot in shots for message in self._example(shot)]
        return Prompt(instructions, tuple(hints), tuple(examples), opening)

    def correction(self) -> str:
        """What an unreadable reply is answered with, where that is asked for."""
        return f"No action could be read in that reply. Reply with {self.form}."

    def parse(self, reply: str) -> Decision:
        """Read a reply. Think blocks are none of it. The first action counts, up to its line's end; whatever follows is ignored. A reply without
        an action is all thought."""
        text = aloud(reply)
        found = read(text, self.lines, self.reading)
        if found is None:
            return Decision(text.strip(), "", fault="no_action")
        action, said = found
        thought = said.pop("Think", "")
        fault = _fault(action)
        return Decision(thought, "" if fault else action, said, fault)

    def render(self, thought: str, action: str, state: Mapping[str, str]) -> str:
        """The reply that `parse` reads back as this thought and action; `state` may say more than this agent does."""
        said = {**state, "Think": thought}
        return "".join(f"{name}: {text}\n" for name, text in said.items() if name in self.lines) + f"Action: {action}"

    def _example(self, shot: Shot) -> list[Message]:
        messages = [Message("user", shot.opening)]
        for step in shot.steps:
            messages.append(Message("assistant", self.render(step.thought, step.action, step.state)))
            messages.append(Message("user", step.observation))
        return messages


@dataclass(frozen=True)
class AgentSpec:
    """What an agent says of itself: how people write its name, and the lines of a reply before `Action:` in an environment that is spoken to
    as its interface says. `kind` is for an agent that prompts or reads otherwise than `Agent` does."""

    title: str
    lines: Callable[[Interface], Mapping[str, str]]
    kind: type[Agent] = Agent


def _number(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return words[count] if count < len(words) else str(count)


def _fault(action: str) -> str:
    """Why an action cannot be played, or ""."""
    if not action:
        return "empty_action"
    if len(action) > MAX_ACTION:
        return "long_action"
    return "control_characters" if any(unicodedata.category(c) == "Cc" for c in action) else ""
