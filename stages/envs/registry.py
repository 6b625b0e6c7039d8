"""Environments by their names in params.yaml."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stages.envs.base import Environment, Task

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


def category_reader(env: str, basis: str, panel_root: Path) -> Callable[[Task], str]:
    """What says a task's category: `oracle`, its own (ALFWorld: from the game's path, WebShop: from the product); `inferred`, read from
    its instruction alone. On WebShop that is learnt from the train panel's instructions."""
    if basis == "oracle":
        return lambda task: task.category
    if env == "alfworld":
        from stages.envs.alfworld.instruction import read_category

        return lambda task: read_category(task.goal)
    from stages.envs.panel import load_panel
    from stages.envs.webshop.department import DepartmentReader

    reader = DepartmentReader([(task.goal, task.category) for task in load_panel(panel_root, "train")[0]])
    return lambda task: reader.read(task.goal)
