"""Act (the baseline of Yao et al., arXiv 2210.03629; the agent the seed paper runs on WebShop): an action at every turn, no thought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stages.agents.base import Decision, Prompt, first_action

INSTRUCTIONS = {
    "alfworld": "You act in a household through text. Each turn, reply with one line 'Action:'.",
    "webshop": "You shop on a website through text. Each turn, reply with one line 'Action:', which holds search[words] or "
    "click[something in brackets].",
}


@dataclass(frozen=True)
class Act:
    """The first `Action:` line of a reply counts, whatever follows it is ignored."""

    name: str = "act"
    stop: tuple[str, ...] = ("\nObservation:", "\nAction:")

    def prompt(self, env: str, opening: str, hints: tuple[str, ...]) -> Prompt:
        return Prompt(INSTRUCTIONS[env], hints, opening)

    def parse(self, reply: str) -> Decision:
        found = first_action(reply)
        return Decision("", found[1].strip()) if found else Decision(reply.strip(), "")

    def render(self, thought: str, action: str, state: Mapping[str, str]) -> str:
        return f"Action: {action}"
