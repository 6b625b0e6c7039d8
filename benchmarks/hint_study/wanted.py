"""What a task wants that only a hint can tell: on ALFWorld the tool of its category, on WebShop the option groups that its instruction names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from stages.demonstrations.alfworld.explorer import TOOLS
from stages.envs.base import Task

HOUSEHOLD_TOOLS = {**TOOLS, "examine": "lamp"}  # of a desk or a floor
Wants = Callable[[Task], frozenset[str]]


def reader(env: str, root: Path, tasks: Sequence[Task]) -> Wants:
    """What each of an environment's `tasks` wants, empty where nothing of the kind is called for. `root` is the folder of the panels; WebShop's
    catalogue is read once."""
    if env == "alfworld":
        return lambda task: frozenset({HOUSEHOLD_TOOLS[task.category]} if task.category in HOUSEHOLD_TOOLS else ())
    [catalogue] = {task.spec["catalogue"] for task in tasks}
    products = pl.read_parquet(root / catalogue, columns=["asin", "groups", "values"])
    offered = {asin: [*zip(groups, values, strict=True)] for asin, groups, values in products.iter_rows()}
    return lambda task: frozenset(
        group for group, values in offered[task.spec["asin"]] if set(values) & set(task.spec["options"])
    )
