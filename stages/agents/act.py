"""Act (the baseline of Yao et al., arXiv 2210.03629; the agent the seed paper runs on WebShop): an action at every turn, no thought."""

from stages.agents.base import Agent

_FORM = "one line 'Action:'"

ACT = Agent(
    name="act",
    form={"alfworld": _FORM, "webshop": _FORM},
    labels={"alfworld": (), "webshop": ()},
    stop=("\nObservation:", "\nAction:"),
)
