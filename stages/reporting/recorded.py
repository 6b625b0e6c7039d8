"""What the stages of a cell recorded, as far as the report shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stages.core.arms import Retrieval
from stages.core.records import BankEntry, Episode, Hint, Lesson

Curve = Sequence[Mapping[str, float]]  # a row a logged step: `step`, optimizer steps so far; `loss`, a trained token


@dataclass(frozen=True)
class Recorded:
    """Episodes, hints, lessons and learning curves of one environment and agent.

    `runs` are the reported panel's episodes by contender (`base`, `distilled_s0`) in the report's order, `curves` are by
    contender too, `lessons` by arm. `rollouts` are the train panel without hints, `teachers` with them, by how they were chosen. Without a
    funnel all but `runs` is empty.
    """

    runs: Mapping[str, Sequence[Episode]]
    rollouts: Sequence[Episode] = ()
    teachers: Mapping[Retrieval, Sequence[Episode]] = field(default_factory=dict)
    hints: Sequence[Hint] = ()
    bank: Sequence[BankEntry] = ()
    lessons: Mapping[str, Sequence[Lesson]] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)

    @property
    def teacher(self) -> Sequence[Episode]:
        """The teacher with the task's own hints."""
        return self.teachers.get("rag", ())
