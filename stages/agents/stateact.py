"""StateAct (Rozanov and Rei, arXiv 2410.02810): goal, state, thought and action at every turn.

The state is the current location and inventory in a household, the current selection in a shop: what the environment's interface names.
Saying it anew each turn keeps it near the end of a long prompt. It is for the model; nothing checks it.
"""

from stages.agents.base import AgentSpec

AGENT = AgentSpec("StateAct", lambda interface: {"Goal": "", **interface.state, "Think": ""})
