"""ReAct (Yao et al., arXiv 2210.03629): a thought, then an action, at every turn.

The paper's ALFWorld prompts think only now and then, as an action `think: ...`; this is the dense variant, in which every
reply holds both lines.
"""

from stages.agents.base import AgentSpec

AGENT = AgentSpec("ReAct", lambda interface: {"Think": ""})
