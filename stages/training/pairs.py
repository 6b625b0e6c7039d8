"""What context distillation learns from: the same replies after a prompt without hints and after one with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stages.core.process import Fault
from stages.core.records import Lesson
from stages.models.chat import Chat
from stages.models.conversation import Encoded, examples


class PairError(Fault, ValueError):
    """Lessons do not say the same with and without hints: names the first one."""


@dataclass(frozen=True)
class Pair(Encoded):
    """A training example as the student meets it, and the same replies as the teacher does, whose prompt has the hints.

    The tokens that carry loss are the same in both, one for one.
    """

    hinted_input_ids: list[int]
    hinted_labels: list[int]


def paired(lessons: Sequence[Lesson]) -> bool:
    """Whether these lessons are for context distillation. Raises `PairError` when some are and some are not."""
    lacking = [lesson.lesson_id for lesson in lessons if not lesson.hinted]
    if lacking and len(lacking) < len(lessons):
        raise PairError(
            f"{len(lacking)} of {len(lessons)} lessons, {lacking[0]} the first, have no conversation with hints; run `dvc repro lessons`"
        )
    return not lacking


def pairs(chat: Chat, lesson: Lesson) -> list[Pair]:
    """A lesson's training examples, as `stages.models.conversation.examples` makes them of either conversation.

    Raises `PairError` unless the same tokens carry loss in both.
    """
    plain, hinted = examples(chat, lesson.messages), examples(chat, lesson.hinted)
    if [e.trained for e in plain] != [e.trained for e in hinted]:
        raise PairError(
            f"lesson {lesson.lesson_id}: the same trained tokens expected with hints and without, "
            f"found {sum(len(e.trained) for e in hinted)} and {sum(len(e.trained) for e in plain)} that differ; run `dvc repro lessons`"
        )
    return [Pair(p.input_ids, p.labels, h.input_ids, h.labels) for p, h in zip(plain, hinted, strict=True)]
