"""StateAct (Rozanov and Rei, arXiv 2410.02810): goal, state, thought and action at every turn.

The state is the current location and inventory in a household, the current selection in a shop. Saying it anew each turn keeps it near the
end of a long prompt. It is for the model; nothing checks it.
"""

from stages.agents.base import Agent

STATEACT = Agent(
    name="stateact",
    form={
        "alfworld": "five lines: 'Goal:', 'Location:' (where you are), 'Inventory:' (what you hold), 'Think:' and 'Action:'",
        "webshop": "four lines: 'Goal:', 'Selection:' (the product you are at and the options you chose), 'Think:' and 'Action:'",
    },
    labels={
        "alfworld": ("Goal", "Location", "Inventory", "Think"),
        "webshop": ("Goal", "Selection", "Think"),
    },
    stop=("\nObservation:", "\nGoal:"),
)
