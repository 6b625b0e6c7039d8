"""The way back: from a student's lesson to the episode it was made of, the hints shown there, and the failures these came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stages.core.arms import ARMS, teacher_name
from stages.core.records import BankEntry, Episode
from stages.core.text import visible
from stages.reporting import words
from stages.reporting.recorded import Recorded
from stages.reporting.tables import Table

MOST_HINTS = 12  # of the bank, in its table


def way_back(recorded: Recorded, students: Sequence[str]) -> dict[str, Any]:
    """Lessons, bank entries and hints with the ids that join them, as plain values.

    `students` are contenders (`distilled_s0`); a lesson names those of its arm. `from` of a lesson says who played its
    episode: `base`, or a teacher by its name (`stages.core.arms.teacher_name`).
    """
    goals = {e.task_id: e.goal for e in recorded.rollouts}
    column_of = {e.episode_id: teacher_name(way) for way, played in recorded.teachers.items() for e in played}
    return {
        "lessons": [
            {
                "id": lesson.lesson_id,
                "arm": arm,
                "students": [name for name in students if name.startswith(f"{arm}_s")],
                "task": visible(lesson.task_id),
                "category": visible(lesson.category),
                "goal": visible(goals.get(lesson.task_id, lesson.task_id)),
                "from": column_of.get(lesson.episode_id, "base"),
                "hints_kept": ARMS[arm].hinted,
                "on_policy": ARMS[arm].learning == "on_policy",
                "tokens": lesson.tokens,
                "trained": lesson.trained_tokens,
                "entries": lesson.hint_ids,
            }
            for arm, lessons in recorded.lessons.items()
            for lesson in lessons
        ],
        "entries": {
            entry.entry_id: {
                "text": visible(entry.text),
                "category": visible(entry.category),
                "rank": entry.rank,
                "hints": entry.hint_ids,
            }
            for entry in recorded.bank
        },
        "hints": {
            hint.hint_id: {
                "text": visible(hint.text),
                "rule": visible(hint.rule),
                "evidence": visible(hint.evidence),
                "task": visible(hint.task_id),
            }
            for hint in recorded.hints
        },
    }


def top_hints(recorded: Recorded) -> Table:
    """The bank's entries that stand for the most hints, and how the teacher fared with them."""
    entries = sorted(recorded.bank, key=lambda e: (e.origin == "written", -e.count, e.category, e.rank))[:MOST_HINTS]
    lines = [[_said(e), e.category, str(e.count), _use(e, recorded.teacher)] for e in entries]
    note = (
        f"The {len(entries)} of {len(recorded.bank)} entries that stand for the most hints. Solved: teacher's episodes "
        "that were shown the entry, and the share it solved."
    )
    return Table("The bank's top hints", ["Hint", "Category", "Count", "Solved"], lines, note)


def _said(entry: BankEntry) -> str:
    return entry.text + (" (by hand)" if entry.origin == "curated" else "")


def _use(entry: BankEntry, teacher: Sequence[Episode]) -> str:
    shown = [e.success for e in teacher if entry.entry_id in e.hint_ids and e.stop != "machine"]
    return f"{sum(shown)}/{len(shown)}" if shown else words.DASH
