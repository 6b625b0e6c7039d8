"""What retrieval chooses, on tasks that call for a withheld skill; nothing is played for it.

A task wants something (ALFWorld: the tool of its category; WebShop: the option groups that its instruction names), and a hint speaks of something
(a tool; the groups in its braces).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import polars as pl

from hint_study.conditions import Banks, Condition
from hint_study.playing import Panel, retriever
from stages.demonstrations.alfworld.explorer import TOOLS
from stages.envs.base import Task
from stages.retrieval.retriever import Question

LAMP = "lamp"  # of a desk or a floor
Wants = Callable[[Task], frozenset[str]]
Names = Callable[[str], frozenset[str]]


def reading(panel: Panel) -> tuple[Wants, Names]:
    """What a task wants, and what a hint's text speaks of, by the panel's environment."""
    return {"alfworld": _alfworld, "webshop": _webshop}[panel.cell.env](panel)


def _alfworld(panel: Panel) -> tuple[Wants, Names]:
    tools = {**TOOLS, "examine": LAMP}
    return (
        lambda task: frozenset({tools[task.category]} if task.category in tools else ()),
        lambda text: frozenset(tool for tool in tools.values() if tool in text.lower()),
    )


def _webshop(panel: Panel) -> tuple[Wants, Names]:
    [catalogue] = {task.spec["catalogue"] for task in panel.tasks}
    products = pl.read_parquet(panel.root / catalogue, columns=["asin", "groups", "values"])
    groups: Mapping[str, Mapping[str, Collection[str]]] = {
        product["asin"]: dict(zip(product["groups"], product["values"], strict=True))
        for product in products.iter_rows(named=True)
    }

    def wants(task: Task) -> frozenset[str]:
        offered = groups[task.spec["asin"]].items()
        return frozenset(name for name, values in offered if set(values) & set(task.spec["options"]))

    return wants, lambda text: frozenset(re.findall(r"\{([^{}]*)\}", text))


def choices(
    panel: Panel, conditions: Sequence[Condition], banks: Banks, withheld: Collection[str]
) -> list[dict[str, Any]]:
    """A row for each condition that chooses without a model: `wanted` things and those of them `shown`; tasks of which `all` was shown, and of which the `first` hint
    speaks of something wanted; `others`: what hints spoke of and the task does not want, a task."""
    wants, names = reading(panel)
    asked = [
        (start, wanted)
        for start, task in zip(panel.starts, panel.tasks, strict=True)
        if task.skill in withheld and (wanted := wants(task))
    ]
    found = []
    for condition in conditions:
        choose = retriever(condition, banks).retrieve
        shown = []
        for start, _ in asked:
            chosen = choose(start)
            assert not isinstance(chosen, Question), condition
            shown.append([names(text) for text in chosen.texts])
        wanted = [wanted for _, wanted in asked]
        spoken = [frozenset().union(*hints) for hints in shown]
        found.append(
            {
                "panel": panel.name,
                "writer": condition.writer,
                "retrieval": condition.way,
                "scope": condition.scope,
                "k": condition.k,
                "tasks": len(asked),
                "wanted": sum(map(len, wanted)),
                "shown": sum(len(w & s) for w, s in zip(wanted, spoken, strict=True)),
                "all": sum(w <= s for w, s in zip(wanted, spoken, strict=True)),
                "first": sum(bool(hints and hints[0] & w) for w, hints in zip(wanted, shown, strict=True)),
                "others": sum(len(s - w) for w, s in zip(wanted, spoken, strict=True)) / max(1, len(asked)),
            }
        )
    return found
