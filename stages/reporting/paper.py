"""The paper's figures beside ours, where panel, model and budget are the paper's; else why they are not set side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from stages.reporting import words
from stages.reporting.cells import CellReport
from stages.reporting.tables import Table
from stages.stats.intervals import wilson

FIGURES = Path(__file__).with_name("paper.json")


@dataclass(frozen=True)
class Beside:
    """What the report says of a cell and the paper; `table` is None where the two are not comparable."""

    said: str
    table: Table | None


@cache
def paper() -> dict[str, Any]:
    """The file of figures: `source`, `setups` by environment, `rows` by environment, agent, model and system."""
    found: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return found


def beside(cell: CellReport) -> Beside:
    """A cell's systems and the paper's in one table, or what differs."""
    rows = [row for row in paper()["rows"] if (row["env"], row["agent"]) == (cell.env, cell.agent)]
    if not rows:
        return Beside("Not comparable with the paper, which has no figures of this agent here.", None)
    setup, model = paper()["setups"][cell.env], _model(cell)
    models = list(dict.fromkeys(row["model"] for row in rows))
    differing = [
        _panel(cell, setup),
        "" if model in models else _model_differs(model, models),
        _budget(cell, setup["budget"]),
    ]
    if any(differing):
        return Beside(f"Not comparable with the paper. {' '.join(filter(None, differing))}", None)
    return Beside(
        f"Panel ({setup['tasks']}), model ({model}, by its name) and budget are the paper's.",
        _table(cell, {row["system"]: row for row in rows if row["model"] == model}, setup["n"]),
    )


def _model(cell: CellReport) -> str:
    """The base model's own name, without its owner or folder; several, as listed, where systems stand on several."""
    return words.listed(dict.fromkeys(PurePosixPath(words.model(row.model)).name for row in cell.systems))


def _panel(cell: CellReport, setup: dict[str, Any]) -> str:
    """How the reported panel differs, or nothing."""
    first = cell.systems[0]
    n = first.n + first.machine_failures
    if first.panel == setup["panel"] and n == setup["n"] and first.panel_source.startswith(setup["panel_source"]):
        return ""
    return f"Panel: {n} tasks ({first.panel}; {first.panel_source}), the paper's are {setup['tasks']}."


def _model_differs(model: str, models: list[str]) -> str:
    return f"Model: {model}, the paper's are {words.listed(models)}."


def _budget(cell: CellReport, budget: dict[str, int]) -> str:
    """How the limits of play differ, or nothing."""
    way = cell.funnel
    if way is None:
        return "Budget: not known without the train panel."
    here = {
        "train tasks": way.episodes + way.machine_failures["base"],
        "turns an episode": way.max_turns,
        "hints": way.k,
        "worked examples": max(row.shots for row in cell.systems),
    }
    said = [f"{here[name]:,} {name} (the paper: {n:,})" for name, n in budget.items() if here[name] != n]
    return f"Budget: {words.listed(said)}." if said else ""


def _table(cell: CellReport, theirs: dict[str, dict[str, Any]], n: int) -> Table:
    """Two lines a system, ours and the paper's."""
    lines = []
    for row in cell.systems:
        lines.append(
            [
                f"{cell.name(row)}, here",
                str(row.n),
                _solved(row.success, row.n),
                _score(row.score),
                words.count(row.tokens_per_episode),
            ]
        )
        if there := theirs.get(row.system):
            tokens = words.count(there["tokens_per_episode"])
            lines.append(["the paper", str(n), _solved(there["success"], n), _score(there["score"]), tokens])
    note = (
        f"The paper: {paper()['source']}; one run each. Intervals (Wilson) of its rates were computed here. Hints had another writer there; "
        "docs/gpu.md has what else differs."
    )
    return Table("Beside the paper", ["System", "Tasks", "Solved (95 %)", "Score", "Tokens an episode"], lines, note)


def _solved(success: float | None, n: int) -> str:
    if success is None:
        return words.DASH
    return f"{words.percent(success)} ({words.whole_interval(*wilson(round(success * n), n))})"


def _score(score: float | None) -> str:
    return words.DASH if score is None else f"{score:.1f}"
