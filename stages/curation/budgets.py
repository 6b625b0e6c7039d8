"""How many lessons an arm has: what is mixed into them, and how arms are given equal budgets."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal

from stages.core.process import Fault
from stages.core.records import Lesson

Budget = Literal["lessons", "tokens"]


class BudgetError(Fault, ValueError):
    """Arms can't be given equal budgets: says which one has too little."""


def mixed(lessons: Sequence[Lesson], others: Sequence[Lesson], share: float, seed: int) -> list[Lesson]:
    """The lessons, and after them as many of the others as the share of their number says, or all where there are fewer; drawn by `seed`."""
    return [*lessons, *_in_order(others, seed)[: round(share * len(lessons))]]


def matched(arms: Mapping[str, Sequence[Lesson]], by: Budget, seed: int) -> tuple[dict[str, list[Lesson]], int]:
    """Every arm's lessons cut to the smallest arm's number (`lessons`) or trained tokens (`tokens`), and that budget.

    Whole lessons are taken as long as the budget has room for the next one, in an order of tasks drawn by `seed`: the same in all arms, so that they
    learn from the same tasks as far as they can. What is kept stays in its own order. Raises `BudgetError` where an arm would be left with nothing.
    """
    sizes = {arm: sum(_size(lesson, by) for lesson in lessons) for arm, lessons in arms.items()}
    budget = min(sizes.values())
    kept = {arm: _within(lessons, by, budget, seed) for arm, lessons in arms.items()}
    empty = [arm for arm in arms if not kept[arm]]
    if empty:
        had = ", ".join(
            f"{arm} {len(lessons)} (trained tokens {sum(x.trained_tokens for x in lessons)})"
            for arm, lessons in arms.items()
        )
        raise BudgetError(
            f"lessons.match: {by} to {budget} would leave arm {empty[0]} without a lesson; there are: {had}. "
            "Take the smallest arm out of axes.arm, or set lessons.match to null"
        )
    return kept, budget


def _size(lesson: Lesson, by: Budget) -> int:
    return 1 if by == "lessons" else lesson.trained_tokens


def _within(lessons: Sequence[Lesson], by: Budget, budget: int, seed: int) -> list[Lesson]:
    chosen: set[str] = set()
    left = budget
    for lesson in _in_order(lessons, seed):
        left -= _size(lesson, by)
        if left < 0:
            break
        chosen.add(lesson.lesson_id)
    return [lesson for lesson in lessons if lesson.lesson_id in chosen]


def _in_order(lessons: Sequence[Lesson], seed: int) -> list[Lesson]:
    """By draws that depend on task and seed alone."""
    return sorted(lessons, key=lambda lesson: (random.Random(f"{seed}|{lesson.task_id}").random(), lesson.lesson_id))
