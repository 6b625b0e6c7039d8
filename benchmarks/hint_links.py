"""From a failure to a bank, link by link: how far each writer comes at the skills that the warm-up withheld.

    python benchmarks/hint_links.py [--cells alfworld_react webshop_act] [--writers rules self]

Each writer reads the same failures of data/rollouts, beside the same probes and successes. A hint states the right step where it names all that the
step is made of (`steps_of`). Nothing of data/ is changed. What the agent solves with each bank, benchmarks/hints.py says; what students make of it,
`dvc exp run -S hints.writer=self`. Writes benchmarks/hint_links.json.

It needs the outputs of `dvc repro rollouts`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from common import base_model, record, show

from stages.core.params import Cell, Settings, load
from stages.core.records import Episode, read
from stages.demonstrations.alfworld.explorer import TOOLS
from stages.envs.base import Task
from stages.envs.panel import load_panel
from stages.envs.registry import make
from stages.hinting.base import Failure, rules_of
from stages.hinting.contrast import beside
from stages.hints import DATA, PANEL, Tables, failures, learn, probe_all

OUT = Path(__file__).with_suffix(".json")
Step = tuple[str, ...]
"""The words that a hint must name to state a step."""

_NEGATED = re.compile(r"\b(?:never|not|don't|avoid|without)\b")


def steps_of(task: Task, panels: Path) -> set[Step]:
    """What solves a task and only a hint can tell: ALFWorld's verb and the class of its place; on WebShop a click and the name of an option group
    of the goal's product that holds a value the goal wants. Empty where nothing of the kind is called for."""
    if task.env == "alfworld":
        return {(task.category, TOOLS[task.category])} if task.category in TOOLS else set()
    products = pl.scan_parquet(panels / task.spec["catalogue"]).filter(pl.col("asin") == task.spec["asin"])
    [product] = products.select("groups", "values").collect().to_dicts()
    offered = zip(product["groups"], product["values"], strict=True)
    return {("click", group) for group, values in offered if set(values) & set(task.spec["options"])}


def states_right_step(text: str, steps: Collection[Step]) -> bool:
    """Whether a hint names all words of one of the steps, and says nothing against any of them."""
    said = text.lower()
    return not _NEGATED.search(said) and any(
        all(re.search(rf"\b{re.escape(word)}\b", said) for word in step) for step in steps
    )


def written(cell: Cell, failed: Sequence[Failure], made: Tables, right: dict[str, set[Step]]) -> dict[str, Any]:
    """The links up to the bank, counted over the failures in `right` (by task, with the steps that solve it)."""
    asked = {f.episode.episode_id: right[f.episode.task_id] for f in failed if f.episode.task_id in right}
    passed = [hint for hint in made.hints if hint.episode_id in asked]
    single = [r for r in made.rejected if r.episode_id in asked and r.reason not in ("unreadable", "cut", "none")]
    stated = {h.episode_id for h in passed if states_right_step(h.text, asked[h.episode_id])}
    return {
        "failures": len(asked),
        "answers_read": sum(a.outcome == "hints" for a in made.answers if a.episode_id in asked)
        if made.answers
        else None,
        "hints": len(passed) + len(single),
        "hints_passed": len(passed),
        "hints_right": sum(states_right_step(h.text, asked[h.episode_id]) for h in passed),
        "failures_with_right_hint": len(stated),
    }


def measure(settings: Settings, cell: Cell, writers: Sequence[str]) -> list[dict[str, Any]]:
    """A cell's links, a row a writer."""
    source, folder, rules = (
        DATA / "rollouts" / cell / "episodes.parquet",
        DATA / "panels" / cell.env,
        rules_of(cell.env),
    )
    tasks, sha256 = load_panel(folder, PANEL)
    episodes = read(source, Episode)
    failed = failures(episodes, sha256, str(source))
    hints = settings.hints
    env = make(cell.env, folder) if hints.probing and rules.probe else None
    told = [*beside(failed, probe_all(failed, tasks, env, rules, hints.probing), episodes, hints.evidence)]
    right = {t.task_id: steps_of(t, folder) for t in tasks if t.skill in settings.warmup.hidden(cell.env)}
    links = []
    for writer in writers:
        study = settings.model_copy(update={"hints": hints.model_copy(update={"writer": writer})})
        made, _ = learn(told, episodes, rules, study, folder)
        links.append({"writer": writer, **written(cell, told, made, right), "bank": len(made.bank)})
    return links


def main() -> None:
    settings = load()
    parser = argparse.ArgumentParser(description="how far the hints of each writer come, link by link")
    parser.add_argument("--cells", nargs="+", type=settings.cell, default=settings.axes.cells)
    parser.add_argument("--writers", nargs="+", default=["rules", "self"])
    asked = parser.parse_args()
    base_model()
    for cell in asked.cells:
        links = measure(settings, cell, asked.writers)
        show(f"{cell}: failures at withheld skills, and what was written of them", links)
        record({cell: {"links": links}}, {"evidence": settings.hints.evidence}, OUT)


if __name__ == "__main__":
    main()
