"""The last look at lessons before anything is trained on them: a gate that finds a fault fails the stage.

The gates read the finished lessons, with the episodes and panels they claim to come from, and trust nothing that the
making of the lessons has checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from stages.core.arms import Arm
from stages.core.process import Fault
from stages.core.records import Episode, Lesson, Message
from stages.curation.leaks import overlap, quoted
from stages.curation.lessons import Encode, shown_by_environment
from stages.envs.base import Task
from stages.models.conversation import IGNORED, Encoded

Decode = Callable[[Sequence[int]], str]
Asks = Callable[[Mapping[str, object]], Mapping[str, str]]


class GateError(Fault, ValueError):
    """Some lessons must not be trained on: names the gates and the rows."""


@dataclass(frozen=True)
class Evidence:
    """What lessons are held against. `measured` are the tasks of dev and of every test panel, `asks` says what a task's spec asks for
    (`EnvSpec.asks`); `decode` turns the ids of a reply into its text. Gates named in `waived` count, and fail nothing."""

    episodes: Mapping[str, Episode]
    tasks: Mapping[str, Task]
    measured: Sequence[Task]
    asks: Asks
    encode: Encode
    decode: Decode
    ngram: int
    max_tokens: int
    waived: frozenset[str] = frozenset()

    @cached_property
    def hints(self) -> frozenset[str]:
        """Every hint shown in any of the episodes."""
        return frozenset(hint for episode in self.episodes.values() for hint in episode.hints)

    @cached_property
    def measured_ids(self) -> frozenset[str]:
        return frozenset(task.task_id for task in self.measured)

    @cached_property
    def sharing(self) -> frozenset[str]:
        return sharing(self.tasks.values(), self.measured, self.asks)


@dataclass(frozen=True)
class Item:
    """One lesson under the gates, with the training examples that it gives now."""

    lesson: Lesson
    episode: Episode
    examples: list[Encoded]

    @property
    def replies(self) -> list[Message]:
        return [message for message in self.lesson.messages if message.role == "assistant"]


def sharing(tasks: Iterable[Task], measured: Iterable[Task], asks: Asks) -> frozenset[str]:
    """The ids of those tasks that ask for what a measured one asks for: on ALFWorld the same in the same room, however furnished, on WebShop
    the same product or in the same words."""
    there = {asked for task in measured for asked in asks(task.spec).items()}
    return frozenset(task.task_id for task in tasks if not there.isdisjoint(asks(task.spec).items()))


Gate = Callable[[Item, Evidence], bool]


def no_hint_text(item: Item, evidence: Evidence) -> bool:
    """No message, the system's among them, holds a hint."""
    return quoted([message.content for message in item.lesson.messages], sorted(evidence.hints)) is None


def no_hint_ngrams(item: Item, evidence: Evidence) -> bool:
    """No reply shares a long run of words with a hint that its episode was shown."""
    texts = [message.content for message in item.replies]
    return overlap(texts, item.episode.hints, shown_by_environment(item.episode), evidence.ngram) is None


def no_measured_task(item: Item, evidence: Evidence) -> bool:
    """The task is of the train panel, and of no measured one."""
    return item.lesson.task_id in evidence.tasks and item.lesson.task_id not in evidence.measured_ids


def no_measured_goal(item: Item, evidence: Evidence) -> bool:
    """No measured task asks for the same."""
    return item.lesson.task_id in evidence.tasks and item.lesson.task_id not in evidence.sharing


def whole_opening(item: Item, evidence: Evidence) -> bool:
    """The first observation is there, word for word."""
    messages = item.lesson.messages
    return len(messages) > 1 and messages[1].role == "user" and messages[1].content == item.episode.opening


def has_trained_tokens(item: Item, evidence: Evidence) -> bool:
    """There is something to learn."""
    return any(label != IGNORED for example in item.examples for label in example.labels)


def within_limit(item: Item, evidence: Evidence) -> bool:
    """Every example fits the trainer's window, and together they have the length that the lesson says, so that nothing is ever cut."""
    lengths = [len(example.input_ids) for example in item.examples]
    return sum(lengths) == item.lesson.tokens and max(lengths, default=0) <= evidence.max_tokens


def only_replies_trained(item: Item, evidence: Evidence) -> bool:
    """The tokens that carry loss are, run for run, the replies marked for training, and nothing else is marked."""
    if any(message.train for message in item.lesson.messages if message.role != "assistant"):
        return False
    runs: list[list[int]] = []
    for example in item.examples:
        previous = IGNORED
        for token, label in zip(example.input_ids, example.labels, strict=True):
            if label not in (IGNORED, token):
                return False
            if label != IGNORED:
                if previous == IGNORED:
                    runs.append([])
                runs[-1].append(token)
            previous = label
    return [evidence.decode(run) for run in runs] == [message.content for message in item.replies if message.train]


def hints_there(item: Item, evidence: Evidence) -> bool:
    """The instructions hold every hint that the lesson names by its id: of an on-policy lesson those of its second conversation."""
    first, *_ = item.lesson.hinted or item.lesson.messages
    there = len(item.lesson.hint_ids) == len(item.episode.hints)
    return there and all(hint in first.content for hint in item.episode.hints)


def same_replies(item: Item, evidence: Evidence) -> bool:
    """With hints and without, the same is said after the opening, and the same tokens carry loss."""
    said = item.lesson.messages[2:]
    hinted = evidence.encode(item.lesson.hinted) if item.lesson.hinted else []
    same_tokens = [e.trained for e in hinted] == [e.trained for e in item.examples]
    return item.lesson.hinted[-len(said) :] == said and same_tokens


LEAKS: tuple[Gate, ...] = (no_hint_text, no_hint_ngrams)
GATES: tuple[Gate, ...] = (
    *LEAKS,
    no_measured_task,
    no_measured_goal,
    whole_opening,
    has_trained_tokens,
    within_limit,
    only_replies_trained,
)


def gates_of(arm: Arm) -> tuple[Gate, ...]:
    """The gates that an arm's lessons must pass. Where hints stay in the lessons they are no leak."""
    if arm.hinted:
        return (hints_there, *(gate for gate in GATES if gate not in LEAKS))
    return (*GATES, hints_there, same_replies) if arm.learning == "on_policy" else GATES


def check(lessons: Sequence[Lesson], evidence: Evidence, gates: Sequence[Gate] = GATES) -> dict[str, dict[str, int]]:
    """How many lessons each gate checked and failed: 0 of all but the waived ones. Raises `GateError` that names every row that failed."""
    items = [_item(lesson, evidence) for lesson in lessons]
    failed = {gate.__name__: [item.lesson.lesson_id for item in items if not gate(item, evidence)] for gate in gates}
    faults = [
        f"  {name}: {len(rows)} of {len(items)}: {', '.join(rows)}"
        for name, rows in failed.items()
        if rows and name not in evidence.waived
    ]
    if faults:
        raise GateError("lessons that must not be trained on, by gate and lesson_id\n" + "\n".join(faults))
    return {name: {"checked": len(items), "failed": len(rows)} for name, rows in failed.items()}


def _item(lesson: Lesson, evidence: Evidence) -> Item:
    if lesson.episode_id not in evidence.episodes:
        raise GateError(f"lesson {lesson.lesson_id} claims episode {lesson.episode_id}, which does not exist")
    return Item(lesson, evidence.episodes[lesson.episode_id], evidence.encode(lesson.messages))
