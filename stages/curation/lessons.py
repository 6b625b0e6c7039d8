"""Episodes as training examples: the agent's conversation as it would have been without any hint."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.agents.base import Agent
from stages.core.records import SCHEMA_VERSION, Episode, Lesson, Message, Turn
from stages.curation.leaks import overlap, quoted
from stages.models.conversation import IGNORED, Encoded

Encode = Callable[[Sequence[Message]], list[Encoded]]
"""The training examples of a conversation."""


@dataclass(frozen=True)
class Limits:
    """What a lesson may hold: refused actions an episode, words of a hint in a row, tokens; and the ids of tasks that none may be of."""

    max_refused: int
    ngram: int
    max_tokens: int
    barred: frozenset[str] = frozenset()


def build_lessons(
    arm: str, episodes: Sequence[Episode], agent: Agent, encode: Encode, limits: Limits
) -> tuple[list[Lesson], dict[str, int]]:
    """Lessons in the order of the episodes, and how many episodes were dropped by reason.

    Reasons: `machine`, `failure`, `shared_goal` (of a barred task), `elided` (the agent did not see all of the conversation that the lesson would show), `refused` (more refused actions than allowed), `quotes_hint` (a reply carries a shown
    hint's words), `untrained` (no reply is fit to learn from), `too_long` (an example of it; never cut). Kept and dropped add up to all.
    """
    lessons: list[Lesson] = []
    dropped: Counter[str] = Counter()
    for episode in episodes:
        reason = _unfit(episode, limits)
        if reason is None:
            messages = conversation(episode, agent)
            examples = encode(messages)
            reason = _unusable(examples, limits)
            if reason is None:
                lessons.append(_lesson(arm, episode, messages, examples))
                continue
        dropped[reason] += 1
    return lessons, dict(sorted(dropped.items()))


def conversation(episode: Episode, agent: Agent) -> list[Message]:
    """The prompt without its hint part, then reply and observation in turn; what follows the last reply is left out.

    A reply that could not be parsed, that the environment refused, or that the token limit cut stays as context, and is
    not trained on.
    """
    messages = agent.prompt(episode.opening, ()).messages()
    for turn in episode.turns:
        messages.append(Message("assistant", turn.reply, train=_exemplary(turn)))
        messages.append(Message("user", turn.observation))
    return messages[:-1]


def shown_by_environment(episode: Episode) -> list[str]:
    """Every text of an episode that came from the environment."""
    return [episode.opening, *(text for turn in episode.turns for text in (turn.observation, *turn.admissible))]


def _exemplary(turn: Turn) -> bool:
    return turn.valid and bool(turn.action) and turn.finish == "stop"


def _unfit(episode: Episode, limits: Limits) -> str | None:
    """Why an episode is no lesson, or None."""
    if episode.machine_failure:
        return "machine"
    if not episode.success or not episode.turns:
        return "failure"
    if episode.task_id in limits.barred:
        return "shared_goal"
    if any(turn.elided for turn in episode.turns):
        return "elided"
    if episode.refused > limits.max_refused:
        return "refused"
    replies = [turn.reply for turn in episode.turns]
    shown = shown_by_environment(episode)
    if quoted(replies, episode.hints) or overlap(replies, episode.hints, shown, limits.ngram):
        return "quotes_hint"
    return None


def _unusable(examples: Sequence[Encoded], limits: Limits) -> str | None:
    if not any(label != IGNORED for example in examples for label in example.labels):
        return "untrained"
    return "too_long" if max(len(example.input_ids) for example in examples) > limits.max_tokens else None


def _lesson(arm: str, episode: Episode, messages: list[Message], examples: Sequence[Encoded]) -> Lesson:
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
    )
