"""Episodes as training examples: the agent's conversation as it would have been without any hint, or as the arm wants it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.agents.base import Agent
from stages.agents.shots import Shot, shots
from stages.core import plugins
from stages.core.arms import ARMS, Arm
from stages.core.records import SCHEMA_VERSION, Episode, Lesson, Message, Turn
from stages.curation.leaks import overlap, quoted
from stages.models.conversation import IGNORED, Encoded

Encode = Callable[[Sequence[Message]], list[Encoded]]
"""The training examples of a conversation."""


@dataclass(frozen=True)
class Limits:
    """What a lesson may hold: refused actions an episode, words of a hint in a row, tokens; the ids of tasks that none may be of; and how many
    worked examples the base agent is shown."""

    max_refused: int
    ngram: int
    max_tokens: int
    barred: frozenset[str] = frozenset()
    shots: int = 0


def build_lessons(
    arm: str, episodes: Sequence[Episode], agent: Agent, encode: Encode, limits: Limits
) -> tuple[list[Lesson], dict[str, int]]:
    """Lessons of an arm in the order of the episodes, and how many episodes were dropped by reason.

    Reasons: `machine`, `failure`, `shared_goal` (of a barred task), `elided` (the agent did not see all of the conversation that the lesson would
    show), `refused` (more refused actions than allowed), `quotes_hint` (a reply carries a hint's words, which no prompt of the
    lesson shows), `untrained` (no reply is fit to learn from), `too_long` (an example of it; never cut). Kept and dropped add up to all. An on-policy arm
    learns from failures and refused actions as well: `hints` of its episodes are those that their task is to be distilled with.
    """
    how = ARMS[arm]
    lessons: list[Lesson] = []
    dropped: Counter[str] = Counter()
    for episode in episodes:
        reason = _unfit(episode, how, limits)
        if reason is None:
            messages, hinted = rendered(episode, how, agent, limits.shots)
            examples = encode(messages)
            reason = _unusable([*examples, *(encode(hinted) if hinted else ())], limits)
            if reason is None:
                lessons.append(_lesson(arm, episode, messages, hinted, examples))
                continue
        dropped[reason] += 1
    return lessons, dict(sorted(dropped.items()))


def rendered(episode: Episode, arm: Arm, agent: Agent, examples: int) -> tuple[list[Message], list[Message]]:
    """An episode as an arm's students are to see it; and, where the arm is on-policy, as the base agent with hints would, else nothing.

    That one is shown the worked examples too, as the teacher is when it plays.
    """
    if arm.learning == "sft":
        return conversation(episode, agent, episode.hints if arm.hinted else ()), []
    file = plugins.environment(episode.env).examples
    written = shots(file, episode.category_used, examples) if examples else ()
    return (
        conversation(episode, agent, learnt=_ended),
        conversation(episode, agent, episode.hints, written, learnt=_ended),
    )


def _ended(turn: Turn) -> bool:
    return turn.finish == "stop"


def _exemplary(turn: Turn) -> bool:
    return turn.valid and bool(turn.action) and _ended(turn)


def conversation(
    episode: Episode,
    agent: Agent,
    hints: Sequence[str] = (),
    examples: Sequence[Shot] = (),
    learnt: Callable[[Turn], bool] = _exemplary,
) -> list[Message]:
    """The prompt, with no hints unless given, then reply and observation in turn; what follows the last reply is left out.

    A reply that is not to be `learnt` stays as context, and is not trained on: one that the token limit cut, and unless told otherwise also one that
    could not be parsed or that the environment refused.
    """
    messages = agent.prompt(episode.opening, hints, examples).messages()
    for turn in episode.turns:
        messages.append(Message("assistant", turn.reply, train=learnt(turn)))
        messages.append(Message("user", turn.observation))
    return messages[:-1]


def shown_by_environment(episode: Episode) -> list[str]:
    """Every text of an episode that came from the environment."""
    return [episode.opening, *(text for turn in episode.turns for text in (turn.observation, *turn.admissible))]


def _unfit(episode: Episode, arm: Arm, limits: Limits) -> str | None:
    """Why an episode is no lesson, or None."""
    imitated = arm.learning == "sft"
    if episode.machine_failure:
        return "machine"
    if not episode.turns or (imitated and not episode.success):
        return "failure"
    if episode.task_id in limits.barred:
        return "shared_goal"
    if any(turn.elided for turn in episode.turns):
        return "elided"
    if imitated and episode.refused > limits.max_refused:
        return "refused"
    if arm.hinted:
        return None
    replies = [turn.reply for turn in episode.turns]
    shown = shown_by_environment(episode)
    if quoted(replies, episode.hints) or overlap(replies, episode.hints, shown, limits.ngram):
        return "quotes_hint"
    return None


def _unusable(examples: Sequence[Encoded], limits: Limits) -> str | None:
    if not any(label != IGNORED for example in examples for label in example.labels):
        return "untrained"
    return "too_long" if max(len(example.input_ids) for example in examples) > limits.max_tokens else None


def _lesson(
    arm: str, episode: Episode, messages: list[Message], hinted: list[Message], examples: Sequence[Encoded]
) -> Lesson:
    return Lesson(
        schema_version=SCHEMA_VERSION,
        lesson_id=hashlib.sha256(f"{arm}|{episode.episode_id}".encode()).hexdigest()[:16],
        arm=arm,
        env=episode.env,
        agent=episode.agent,
        category=episode.category,
        episode_id=episode.episode_id,
        task_id=episode.task_id,
        hint_ids=list(episode.hint_ids),
        tokens=sum(len(example.input_ids) for example in examples),
        trained_tokens=sum(label != IGNORED for example in examples for label in example.labels),
        messages=messages,
        hinted=hinted,
    )
