"""Act (the baseline of Yao et al., arXiv 2210.03629; the agent the seed paper runs on WebShop): an action at every turn, no thought."""

from stages.agents.base import AgentSpec

AGENT = AgentSpec("Act", lambda interface: {})
