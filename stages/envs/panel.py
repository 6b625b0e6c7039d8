"""Frozen panels on disk, whatever the environment: `tasks.parquet`, `panels.json`, and the files the tasks name.

A panel's hash covers its ordered rows, and through the rows the content of every file they name by hash. Two results
are compared only if they stand on equal hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import polars as pl

from stages.core.process import Fault
from stages.envs.base import Task

Item = TypeVar("Item")

SCHEMA_VERSION = 1
TASKS_FILE = "tasks.parquet"
PANELS_FILE = "panels.json"
_COLUMNS = ("task_id", "env", "panel", "category", "goal")  # the rest is the task's spec


class PanelError(Fault, ValueError):
    """A panel is missing, empty, or not what was written; the message says which file and what to do."""


def panel_sha256(tasks: Sequence[Task]) -> str:
    """The hash of a panel: over its rows in their order, each as JSON with sorted keys."""
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(json.dumps(asdict(task), sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def write_panels(
    folder: Path,
    env: str,
    source: str,
    panels: Mapping[str, Sequence[Task]],
    files: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write `tasks.parquet` and `panels.json`; `source` is where the tasks came from (`generated`, `official`; it may say more), `files`
    maps the files they were made of to their SHA-256.

    All tasks' specs must have the same keys. The same panels give the same bytes.
    """
    tasks = [task for panel in panels.values() for task in panel]
    names = [task.task_id for task in tasks]
    if len(set(names)) < len(names):
        repeated = sorted({n for n in names if names.count(n) > 1})
        raise PanelError(f"task ids must be unique, but these come more than once: {', '.join(repeated[:5])}")
    rows = [
        {"schema_version": SCHEMA_VERSION, **{c: getattr(task, c) for c in _COLUMNS}, **task.spec} for task in tasks
    ]
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(folder / TASKS_FILE)
    summary = {
        "schema_version": SCHEMA_VERSION,
        "env": env,
        "source": source,
        "files": dict(files),
        "panels": {name: {"n": len(panel), "sha256": panel_sha256(panel)} for name, panel in panels.items()},
    }
    (folder / PANELS_FILE).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def load_panel(root: Path, name: str) -> tuple[list[Task], str]:
    """A panel's tasks in their order, and its hash, computed anew.

    Raises PanelError if the panel is missing or empty, or if its rows are not those the hash was taken of. The files
    that tasks name are checked by the environment, when it opens them.
    """
    summary = _read_summary(root / PANELS_FILE)["panels"]
    if name not in summary:
        raise PanelError(f"{root / PANELS_FILE}: there is no panel {name!r}, only {', '.join(sorted(summary))}")
    rows = _read_rows(root / TASKS_FILE, name)
    tasks = [
        Task(
            **{column: str(row[column]) for column in _COLUMNS},
            spec={k: v for k, v in row.items() if k not in (*_COLUMNS, "schema_version")},
        )
        for row in rows
    ]
    found = panel_sha256(tasks)
    if found != summary[name]["sha256"]:
        raise PanelError(
            f"{root / TASKS_FILE}: panel {name!r} is not the one that was built: {PANELS_FILE} says sha256 "
            f"{summary[name]['sha256']}, its {len(tasks)} rows give {found}. Restore both files (dvc checkout) or "
            "build the panels again (dvc repro panels)"
        )
    if not tasks:
        raise PanelError(f"{root / TASKS_FILE}: panel {name!r} is empty; give it tasks in the panels' settings")
    return tasks, found


def panel_names(root: Path) -> list[str]:
    """The panels there are, in the order of writing. Raises PanelError if they are missing."""
    return list(_read_summary(root / PANELS_FILE)["panels"])


def panel_source(root: Path) -> str:
    """Where the tasks came from, as the panels' builder wrote it. Raises PanelError if the panels are missing."""
    return str(_read_summary(root / PANELS_FILE)["source"])


def cut(items: Sequence[Item], kind: Callable[[Item], Hashable], limit: int | None) -> list[Item]:
    """At most `limit` items, in their order: the first ones of each kind, kinds taking turns. None: all."""
    if limit is None:
        return list(items)
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        places[kind(item)].append(place)
    in_turn = [place for round_ in zip_longest(*places.values()) for place in round_ if place is not None]
    return [items[place] for place in sorted(in_turn[:limit])]


def _read_summary(path: Path) -> dict[str, Any]:
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PanelError(f"{path}: can't be read ({error.strerror}). Build the panels: dvc repro panels") from error
    if summary.get("schema_version") != SCHEMA_VERSION:
        raise PanelError(
            f"{path}: expected schema_version {SCHEMA_VERSION}, found {summary.get('schema_version')}. "
            "Build the panels again: dvc repro panels"
        )
    return summary


def _read_rows(path: Path, panel: str) -> list[dict[str, object]]:
    try:
        return pl.read_parquet(path).filter(pl.col("panel") == panel).to_dicts()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PanelError(f"{path}: can't be read ({error}). Build the panels again: dvc repro panels") from error
