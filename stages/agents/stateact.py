"""StateAct (Rozanov and Rei, arXiv 2410.02810): goal, state, thought and action at every turn.

The state is the current location and inventory in a household, the current selection in a shop. Saying it anew each turn keeps it near the
end of a long prompt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from stages.agents.base import Decision, Prompt, first_action

INSTRUCTIONS = {
    "alfworld": "You act in a household through text. Each turn, reply with five lines: 'Goal:', 'Location:' (where you are), 'Inventory:' "
    "(what you hold), 'Think:' and 'Action:'.",
    "webshop": "You shop on a website through text. Each turn, reply with four lines: 'Goal:', 'Selection:' (the product you are at and the "
    "options you chose), 'Think:' and 'Action:', which holds search[words] or click[something in brackets].",
}
_THOUGHT = re.compile(r"^[^\S\n]*Think:([^\n]*)", re.M)


@dataclass(frozen=True)
class StateAct:
    """The first `Action:` line of a reply counts, whatever follows it is ignored. The state is for the model, nothing checks it."""

    name: str = "stateact"
    stop: tuple[str, ...] = ("\nObservation:", "\nGoal:")

    def prompt(self, env: str, opening: str, hints: tuple[str, ...]) -> Prompt:
        return Prompt(INSTRUCTIONS[env], hints, opening)

    def parse(self, reply: str) -> Decision:
        action = first_action(reply)
        if action is None:
            return Decision(thought=reply.strip(), action="")
        thought = _THOUGHT.search(reply, 0, action.start())
        return Decision(thought[1].strip() if thought else "", action[1].strip())

    def render(self, thought: str, action: str, state: Mapping[str, str]) -> str:
        said = "".join(f"{name}: {value}\n" for name, value in state.items())
        return f"{said}Think: {thought}\nAction: {action}"
