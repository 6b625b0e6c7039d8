"""Agents: how a prompt is laid out and a reply read. `get(name)` returns one by its name in params.yaml."""

from __future__ import annotations

from stages.agents.act import ACT
from stages.agents.base import Agent
from stages.agents.react import REACT
from stages.agents.stateact import STATEACT

AGENTS: dict[str, Agent] = {agent.name: agent for agent in (REACT, ACT, STATEACT)}


def get(name: str) -> Agent:
    """The agent of that name; raises `KeyError` with the known names otherwise."""
    if name not in AGENTS:
        raise KeyError(f"unknown agent {name!r}; known: {', '.join(sorted(AGENTS))}")
    return AGENTS[name]
