"""Hints from purchases that fell short: the pages that were seen say what could have been done."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from stages.core.params import Hints
from stages.envs.base import Task
from stages.hinting.base import HintRules
from stages.hinting.webshop.rules import TIERS, findings


def basis(settings: Hints) -> str:
    """What the rules read of a failure."""
    return "the reward's parts" if settings.sees_parts else "the pages and the reward as a whole, not its parts"


def names(tasks: Sequence[Task], panels: Path) -> Iterator[str]:
    """The products that goals are about, by id and by title."""
    sold = {task.spec["asin"] for task in tasks}
    yield from sold
    for name in {task.spec["catalogue"] for task in tasks}:
        yield from pl.scan_parquet(panels / name).filter(pl.col("asin").is_in(sold)).collect()["title"]


DEEDS = frozenset({"buy", "choose", "compare", "open", "pick", "select"})
RULES = HintRules(findings, TIERS, basis, deeds=DEEDS, names=names)
