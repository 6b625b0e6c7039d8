"""Environments by their names: what plays, and what reads a task's category."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from stages.core import plugins
from stages.core.files import CACHE
from stages.envs.base import Environment, Task


def make(env: str, panel_root: Path) -> Environment:
    """A new environment for the panels below `panel_root`. Raises `PluginError` for a name that no environment has."""
    spec = plugins.environment(env)
    return cast(Environment, plugins.resolve(spec.environment)(panel_root, CACHE / env))


def category_reader(env: str, basis: str, panel_root: Path) -> Callable[[Task], str]:
    """What says a task's category: `oracle`, its own (ALFWorld: from the game's path, WebShop: from the product); `inferred`, read from
    its instruction alone, as `EnvSpec.categories_read` does."""
    if basis == "oracle":
        return lambda task: task.category
    read: Callable[[str], str] = plugins.resolve(plugins.environment(env).categories_read)(panel_root)
    return lambda task: read(task.goal)
