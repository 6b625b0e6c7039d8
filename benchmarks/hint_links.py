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
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from common import base_model, faults_in_one_line, record, show
from hint_study.conditions import Banks, Condition
from hint_study.wanted import reader

from stages.core import plugins
from stages.core.params import Cell, Settings, load
from stages.core.process import check_root
from stages.envs.base import Task
from stages.hinting.base import Failure
from stages.hints import DATA, Tables

OUT = Path(__file__).with_suffix(".json")
Step = tuple[str, ...]
"""The words that a hint must name to state a step."""

_NEGATED = re.compile(r"\b(?:never|not|don't|avoid|without)\b")


def steps_of(env: str, root: Path, tasks: Sequence[Task]) -> dict[str, set[Step]]:
    """What solves a task and only a hint can tell, by the task's id: a verb and what the task wants. Tasks that want nothing are left out."""
    wants = reader(env, root, tasks)
    found = {task.task_id: {(_verb(task), thing) for thing in wants(task)} for task in tasks}
    return {task_id: steps for task_id, steps in found.items() if steps}


def _verb(task: Task) -> str:
    """ALFWorld's verb is the category's name, but a lamp is used."""
    if task.env == "webshop":
        return "click"
    return "use" if task.category == "examine" else task.category


def _names(text: str, word: str) -> bool:
    """A lamp is a desklamp or a floorlamp."""
    return bool(re.search(rf"\b(?:desk|floor)?{re.escape(word)}\b", text))


def states_right_step(text: str, steps: Collection[Step]) -> bool:
    """Whether a hint names all words of one of the steps, and says nothing against any of them."""
    said = text.lower()
    return not _NEGATED.search(said) and any(all(_names(said, word) for word in step) for step in steps)


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
    """A cell's links, a row a writer. Raises `Fault` where the study's data are missing, and for a writer that is not there."""
    banks = Banks(settings, cell, DATA)
    hidden = settings.warmup.hidden(cell.env)
    right = steps_of(cell.env, DATA / "panels" / cell.env, [t for t in banks.tasks if t.skill in hidden])
    links = []
    for writer in writers:
        made = banks.of(Condition(writer))
        links.append({"writer": writer, **written(cell, banks.failures, made, right), "bank": len(made.bank)})
    return links


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description="how far the hints of each writer come, link by link")
    parser.add_argument("--cells", nargs="+", metavar="CELL", help="all of the study, if left out")
    parser.add_argument("--writers", nargs="+", default=["rules", "self"])
    asked = parser.parse_args()
    check_root()
    settings = load()
    cells = [settings.cell(name) for name in asked.cells or settings.axes.cell]
    for writer in asked.writers:
        plugins.find("hinting/writers", writer, "write")  # before any is paid for
    base_model()
    for cell in cells:
        links = measure(settings, cell, asked.writers)
        show(f"{cell}: failures at withheld skills, and what was written of them", links)
        record({cell: {"links": links}}, {"evidence": settings.hints.evidence}, OUT)


if __name__ == "__main__":
    sys.exit(faults_in_one_line(main))
