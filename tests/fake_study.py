"""Made-up episodes and hints, small and without chance, for the tests of statistics, metrics and report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from stages.core.records import SCHEMA_VERSION, BankEntry, Episode, Hint, Lesson, Message, Turn

SHA = {"train": "a" * 64, "dev": "d" * 64, "test": "e" * 64}
TASKS = [(f"{category}-{i}", category) for category in ("put", "heat") for i in range(6)]


def episode(system: str, task: str, category: str, success: bool, **changes: Any) -> Episode:
    """One finished episode of two turns, the second of which was refused; `changes` replace fields."""
    turns = [
        Turn(100, 60, 0, "Action: go", 10, "stop", "", "go", "", False, "You go.", True, ["go"]),
        Turn(140, 20, 0, "Action: fly", 10, "stop", "", "fly", "", False, "Nothing happens.", False, ["go"]),
    ]
    made = Episode(
        schema_version=SCHEMA_VERSION,
        episode_id=f"{system}-{task}",
        task_id=task,
        env="alfworld",
        agent="react",
        system=system,
        seed=0,
        panel="test",
        panel_sha256=SHA["test"],
        category=category,
        category_used=category,
        skill=category,
        goal="put it there",
        hint_ids=[],
        hints=[],
        opening="You are in a room.",
        turns=turns,
        success=success,
        reward=float(success),
        parts=[],
        steps=2,
        refused=1,
        stop="done" if success else "turn_limit",
        prompt_tokens=240,
        reply_tokens=20,
        computed_tokens=80,
        retrieve_tokens=0,
        model="tiny",
        engine="cpu",
        machine_failure="",
    )
    return dataclasses.replace(made, **changes)


def broken(found: Episode) -> Episode:
    """The same episode, broken off by the machine."""
    return dataclasses.replace(found, success=False, reward=0.0, stop="machine", machine_failure="engine down")


def run(system: str, solved: Callable[[str, str], bool], panel: str = "test", **changes: Any) -> list[Episode]:
    """A run over all tasks; `solved` says by task and category which ones succeed."""
    changes = {"panel": panel, "panel_sha256": SHA[panel], **changes}
    return [episode(system, task, category, solved(task, category), **changes) for task, category in TASKS]


def hint(number: int, rule: str) -> Hint:
    """A hint from the failed episode of a heating task."""
    task = f"heat-{number}"
    return Hint(
        SCHEMA_VERSION, f"h{number}", "alfworld", "react", "heat", "Heat it.", rule, "evidence", f"base-{task}", task
    )


def entry(number: int, hint_ids: Iterable[str]) -> BankEntry:
    """A bank entry that merges some hints."""
    ids = list(hint_ids)
    return BankEntry(SCHEMA_VERSION, f"b{number}", "alfworld", "react", "heat", "Heat it.", len(ids), number, ids, [])


def lesson(arm: str, task: str, category: str) -> Lesson:
    """A lesson of 50 tokens, 20 of them trained."""
    return Lesson(
        schema_version=SCHEMA_VERSION,
        lesson_id=f"{arm}-{task}",
        arm=arm,
        env="alfworld",
        agent="react",
        category=category,
        episode_id=f"teacher-{task}",
        task_id=task,
        hint_ids=[],
        tokens=50,
        trained_tokens=20,
        messages=[Message("user", "task"), Message("assistant", "Action: go", True)],
    )
