"""Worked examples for instruct models: whole episodes, written once and rendered by each agent in its own form.

They are played in rooms and a shop that belong to no panel, in the action grammar that agents use (`move X to Y`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Step:
    """One decision, what the demonstrator knew of itself before it (`state`, by the names of StateAct's lines), and what came of it."""

    thought: str
    action: str
    state: dict[str, str]
    observation: str


@dataclass(frozen=True)
class Shot:
    """One example episode, from its opening to its end."""

    opening: str
    steps: tuple[Step, ...]


def shots(examples: Path | None, category: str, number: int) -> tuple[Shot, ...]:
    """The first `number` examples for a task category in an environment's file; those that fit every category stand under "any".

    Raises ValueError when there are fewer.
    """
    written = _load(examples) if examples else {}
    found = written.get(category, written.get("any", ()))
    if len(found) < number:
        raise ValueError(f"{number} examples asked for, but {examples} has {len(found)} for {category!r}")
    return found[:number]


@cache
def _load(path: Path) -> dict[str, tuple[Shot, ...]]:
    content: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
    return {category: tuple(map(_shot, examples)) for category, examples in content.items()}


def _shot(values: dict[str, Any]) -> Shot:
    return Shot(values["opening"], tuple(Step(**step) for step in values["steps"]))
