"""The figures one decides by: at most a dozen a cell, out of the rows of metrics/systems.json and metrics/contrasts.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

SYSTEMS = ("base", "rag", "sft", "distilled")
COMPARED = ("base", "distilled")  # before and after: both have success and the withheld skills beside the score
PRICED = ("rag", "distilled")  # retrieval's tokens, and what is left of them without it

Row = Mapping[str, Any]
Headline = dict[str, dict[str, dict[str, float]]]  # cell -> system -> figure -> value


def headline(systems: Iterable[Row], contrasts: Iterable[Row]) -> Headline:
    """The deciding figures of one panel's rows, students' as means over their seeds.

    `success` and `withheld` (success where the task calls for a withheld skill) are fractions, `score` is in points (reward x 100) where rewards
    are graded, `tokens` are billed tokens an episode. `minus_sft` is the primary contrast in its own metric's unit, `p` its p-value.
    What a cell is judged by, score or else success, stands at all of `SYSTEMS`. A figure that a study lacks has no key.
    """
    runs: dict[str, dict[str, list[Row]]] = {}
    for row in systems:
        if row["system"] in SYSTEMS:
            runs.setdefault(cell_of(row), {}).setdefault(row["system"], []).append(row)
    found = {cell: {name: _figures(name, rows) for name, rows in by_name.items()} for cell, by_name in runs.items()}
    for pair in contrasts:
        if pair["primary"]:
            found[cell_of(pair)][pair["a"]] |= {f"minus_{pair['b']}": pair["difference"], "p": pair["p_value"]}
    return found


def cell_of(row: Row) -> str:
    """The cell that a row is of."""
    return f"{row['env']}_{row['agent']}"


def _figures(system: str, rows: list[Row]) -> dict[str, float]:
    """A system's figures, each the mean over its rows, which are one a seed."""
    graded = rows[0]["score"] is not None
    wanted = {
        "success": [row["success"] for row in rows if not graded or system in COMPARED],
        "withheld": [row["skills"]["withheld"]["success"] for row in rows if system in COMPARED],
        "score": [row["score"] for row in rows if graded],
        "tokens": [row["tokens_per_episode"] for row in rows if system in PRICED],
    }
    return {name: fmean(values) for name, values in wanted.items() if values and None not in values}
