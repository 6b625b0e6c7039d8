"""Demonstrations of household tasks, by an explorer that sees only the text."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from stages.agents.base import Agent
from stages.core.records import Demo
from stages.demonstrations.alfworld import demos, writing
from stages.demonstrations.plan import Plan
from stages.envs.alfworld.environment import AlfworldEnvironment
from stages.envs.panel import load_panel
from stages.panelling.alfworld import build
from stages.panelling.alfworld.settings import AlfworldPanels


def demonstrate(settings: AlfworldPanels, agents: Sequence[Agent], plan: Plan, cache: Path) -> list[list[Demo]]:
    """Make the warm-up games, play them as each agent, and keep no game; see `stages.demos`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(settings, folder, cache, {}, names=("warmup",))
        tasks, _ = load_panel(folder, "warmup")
        env = AlfworldEnvironment(folder, cache)
        made = [demos.demonstrate(env, tasks, agent, plan) for agent in agents]
        return [*made, writing.demonstrate(env, tasks, agents[0], plan, plan.writing)] if plan.writing else made
