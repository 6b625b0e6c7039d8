"""Demonstrations of shopping, by a shopper that sees only the pages."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from stages.agents.base import Agent
from stages.core.records import Demo
from stages.demonstrations.plan import Plan
from stages.demonstrations.webshop import demos, writing
from stages.envs.panel import load_panel
from stages.envs.webshop.environment import WebShopEnvironment
from stages.panelling.webshop.panels import build_panels
from stages.panelling.webshop.settings import WebshopPanels


def demonstrate(settings: WebshopPanels, agents: Sequence[Agent], plan: Plan, cache: Path) -> list[list[Demo]]:
    """Draw the warm-up goals, shop for them as each agent, and keep no shop; see `stages.demos`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_panels(settings, folder, names=("warmup",))
        tasks, _ = load_panel(folder, "warmup")
        env = WebShopEnvironment(folder)
        made = [demos.demonstrate(env, tasks, agent, plan) for agent in agents]
        return [*made, writing.demonstrate(env, tasks, agents[0], plan, plan.writing)] if plan.writing else made
