"""What retrieval chooses, on tasks that call for a withheld skill; nothing is played for it.

A task wants something (`hint_study.wanted`), and a hint speaks of something (ALFWorld: a tool; WebShop: the groups in its braces).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from hint_study.conditions import Banks, Condition
from hint_study.playing import Panel, retriever
from hint_study.wanted import HOUSEHOLD_TOOLS, Wants, reader
from stages.retrieval.retriever import Question

Names = Callable[[str], frozenset[str]]


def reading(panel: Panel) -> tuple[Wants, Names]:
    """What a task wants, and what a hint's text speaks of, by the panel's environment."""
    names = {"alfworld": _tools, "webshop": _groups}[panel.cell.env]
    return reader(panel.cell.env, panel.root, panel.tasks), names


def _tools(text: str) -> frozenset[str]:
    return frozenset(tool for tool in HOUSEHOLD_TOOLS.values() if tool in text.lower())


def _groups(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\{([^{}]*)\}", text))


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
