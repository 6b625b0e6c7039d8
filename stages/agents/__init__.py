"""Agents: how a prompt is laid out and a reply read. Each is a module here that says so in `AGENT`."""

from __future__ import annotations

from stages.agents.base import Agent, AgentSpec
from stages.agents.reading import LABEL, Reading
from stages.core import plugins


def spec(name: str) -> AgentSpec:
    """What an agent says of itself. Raises `PluginError` for a name that no agent has."""
    found = plugins.find("agents", name, "AGENT")
    if not isinstance(found, AgentSpec):
        raise plugins.PluginError(f"stages/agents/{name}.py: AGENT must be an AgentSpec, found {found!r:.80}")
    return found


def get(name: str, env: str, reading: Reading = "loose") -> Agent:
    """The agent of that name as it acts in an environment, its replies read as `reading` says. Raises `PluginError` for a name that nothing has."""
    found, interface = spec(name), plugins.environment(env).interface
    lines = dict(found.lines(interface))
    unreadable = [label for label in lines if label == "Action" or not LABEL.fullmatch(label)]
    if unreadable:
        raise plugins.PluginError(
            f"{name} on {env}: a line's label is one capitalised word other than Action, found {unreadable[0]!r}"
        )
    return found.kind(name, interface, lines, reading)
