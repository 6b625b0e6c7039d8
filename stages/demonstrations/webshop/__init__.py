"""Demonstrations of shopping, by a shopper that sees only the pages."""

from __future__ import annotations

import tempfile
from pathlib import Path

from stages.agents.base import Agent
from stages.core.records import Demo
from stages.demonstrations.plan import Plan
from stages.demonstrations.webshop import demos
from stages.envs.panel import load_panel
from stages.envs.webshop.environment import WebShopEnvironment
from stages.panelling.webshop.panels import build_panels
from stages.panelling.webshop.settings import WebshopPanels


def demonstrate(settings: WebshopPanels, agent: Agent, plan: Plan, cache: Path) -> list[Demo]:
    """Draw the warm-up goals, shop for them, and keep no shop; see `stages.demos`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_panels(settings, folder, names=("warmup",))
        tasks, _ = load_panel(folder, "warmup")
        return demos.demonstrate(WebShopEnvironment(folder), tasks, agent, plan)
