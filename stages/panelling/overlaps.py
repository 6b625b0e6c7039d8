"""What panels have in common: counted where it is not ruled out, so that a reader knows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.envs.base import Task
from stages.envs.panel import PanelError

SCHEMA_VERSION = 1
OVERLAPS_FILE = "overlaps.json"

Asks = Callable[[Mapping[str, object]], Mapping[str, str]]
"""What a task's spec asks for, by way (`EnvSpec.asks`)."""


def overlaps(panels: Mapping[str, Sequence[Task]], asks: Asks) -> list[dict[str, Any]]:
    """Of each pair of panels, in their order: `panel`, how many `tasks` it has, and by way how many of these share that with a task of
    the panel `with`. A pair that shares nothing has no row. Raises `PanelError` for a task that does not say what it asks for."""
    asked = {name: [_asked(task, asks) for task in tasks] for name, tasks in panels.items()}
    rows = []
    for one, other in itertools.combinations(panels, 2):
        there = {(way, value) for found in asked[other] for way, value in found.items()}
        counts = {way: sum((way, found[way]) in there for found in asked[one]) for way in asked[one][0]}
        if any(counts.values()):
            rows.append({"panel": one, "with": other, "tasks": len(panels[one]), "shared": counts})
    return rows


def _asked(task: Task, asks: Asks) -> Mapping[str, str]:
    try:
        return asks(task.spec)
    except KeyError as lacking:
        raise PanelError(
            f"{task.task_id} (panel {task.panel!r}) has no {lacking}, by which {task.env} tells goals apart"
        ) from None


def write_overlaps(folder: Path, env: str, panels: Mapping[str, Sequence[Task]], asks: Asks) -> None:
    """Write `overlaps.json` beside the panels, if two of them share anything."""
    if rows := overlaps(panels, asks):
        text = json.dumps({"schema_version": SCHEMA_VERSION, "env": env, "rows": rows}, indent=1)
        (folder / OVERLAPS_FILE).write_text(text + "\n", encoding="utf-8")
