"""Environments by their names in params.yaml."""

from __future__ import annotations

from pathlib import Path

from stages.envs.base import Environment

CACHE = Path(".cache")  # what environments can make anew, kept between runs and outside every stage's outputs


def make(env: str, panel_root: Path) -> Environment:
    """A new environment for the panels below `panel_root`. Raises KeyError for a name params.yaml does not know."""
    if env == "alfworld":
        from stages.envs.alfworld.environment import AlfworldEnvironment

        return AlfworldEnvironment(panel_root, CACHE / env)
    if env == "webshop":
        from stages.envs.webshop.environment import WebShopEnvironment

        return WebShopEnvironment(panel_root)
    raise KeyError(f"unknown environment {env!r}; known: alfworld, webshop")
