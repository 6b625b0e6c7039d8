"""ReAct (Yao et al., arXiv 2210.03629): a thought, then an action, at every turn.

The paper's ALFWorld prompts think only now and then, as an action `think: ...`; this is the dense variant, in which every
reply holds both lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from stages.agents.base import Decision, Prompt, first_action

INSTRUCTIONS = {
    "alfworld": "You act in a household through text. Each turn, reply with one line 'Think:' and one line 'Action:'.",
    "webshop": "You shop on a website through text. Each turn, reply with one line 'Think:' and one line 'Action:', which holds "
    "search[words] or click[something in brackets].",
}
# Apart from the action's pattern: one for both lines takes minutes on a reply of some thousand line breaks.
_THOUGHT = re.compile(r"^[^\S\n]*Think:(.*)", re.S | re.M)


@dataclass(frozen=True)
class React:
    """The dense ReAct agent; the first `Action:` line of a reply counts, whatever follows it is ignored."""

    name: str = "react"
    stop: tuple[str, ...] = ("\nObservation:", "\nThink:")

    def prompt(self, env: str, opening: str, hints: tuple[str, ...]) -> Prompt:
        return Prompt(INSTRUCTIONS[env], hints, opening)

    def parse(self, reply: str) -> Decision:
        action = first_action(reply)
        if action is None:
            return Decision(thought=reply.strip(), action="")
        thought = _THOUGHT.search(reply, 0, action.start())
        return Decision(thought[1].strip() if thought else "", action[1].strip())

    def render(self, thought: str, action: str, state: Mapping[str, str]) -> str:
        return f"Think: {thought}\nAction: {action}"
