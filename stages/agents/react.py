"""ReAct (Yao et al., arXiv 2210.03629): a thought, then an action, at every turn.

The paper's ALFWorld prompts think only now and then, as an action `think: ...`; this is the dense variant, in which every
reply holds both lines.
"""

from stages.agents.base import Agent

_FORM = "one line 'Think:' and one line 'Action:'"

REACT = Agent(
    name="react",
    form={"alfworld": _FORM, "webshop": _FORM},
    labels={"alfworld": ("Think",), "webshop": ("Think",)},
    stop=("\nObservation:", "\nThink:"),
)
