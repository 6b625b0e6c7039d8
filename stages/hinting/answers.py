"""A model's hints: what it is asked, how its answer is read, and mended once where it cannot be."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.core import thinking
from stages.core.params import Hints
from stages.core.process import Fault
from stages.core.records import SCHEMA_VERSION, Answer, Hint, Message, Rejection
from stages.core.sections import Prices
from stages.engines.base import Engine, Reply
from stages.hinting import prompting
from stages.hinting.asking import Memory, Talk, converse
from stages.hinting.base import Failure, Written, hint_of

_LEAST = 2  # turns of a trace that are always shown

Told = tuple[list[Hint], Answer, list[Rejection]]


class AnswerError(Fault, ValueError):
    """A failure that the model's window does not hold, however much is left out of it."""


class Unreadable(ValueError):
    """An answer that holds no list of hints: says what is wrong with it."""


@dataclass(frozen=True)
class Author:
    """Who writes: the writer's name, the model's in records, what a model and its settings are told apart by, the setting of its window
    (`window`) and how many tokens that has (`context`), and how many turns of a trace it is shown at most."""

    writer: str
    model: str
    identity: Mapping[str, Any]
    window: str
    context: int
    prices: Prices | None = None
    turns: int = sys.maxsize


def schema(settings: Hints, env: str) -> dict[str, Any]:
    """The form of an answer, as a JSON schema. A text may be longer than a hint, so that none passes as one for having been cut, and all of them
    together no longer than an answer, at a token a character."""
    most = settings.per_failure[env]
    bound = max(settings.max_chars + 1, min(2 * settings.max_chars, settings.llm.max_tokens // most - 16))
    listed = {"type": "array", "items": {"type": "string", "maxLength": bound}, "maxItems": most}
    return {"type": "object", "properties": {"hints": listed}, "required": ["hints"], "additionalProperties": False}


def write(failures: Sequence[Failure], settings: Hints, author: Author, engine: Engine) -> Written:
    """All failures' hints by one model. Raises `EngineFault` when it cannot be asked, `AnswerError` when its window is too small."""
    talks = [_talk(failure, settings, author) for failure in failures]
    told = converse(engine, Memory(author.identity, author.context - settings.llm.max_tokens), talks)
    return Written(
        [hint for hints, _, _ in told for hint in hints],
        [answer for _, answer, _ in told],
        [rejection for _, _, rejections in told for rejection in rejections],
        prompting.basis(failures, settings, author.turns),
    )


def read_hints(reply: Reply) -> list[str]:
    """The texts of an answer, on one line each. Raises `Unreadable`."""
    said = thinking.aloud(reply.text)
    found = _first_object(said)
    if found is None:
        cut = "it was cut at the token limit" if reply.finish == "length" else "there is no JSON object in it"
        raise Unreadable(cut)
    listed = found.get("hints")
    if not isinstance(listed, list):
        raise Unreadable("it has no list `hints`")
    texts = [item.get("text") if isinstance(item, dict) else item for item in listed]
    odd = next((text for text in texts if not isinstance(text, str)), "")
    if odd != "":
        raise Unreadable(f"a hint is {json.dumps(odd)[:40]}, and no text")
    return [" ".join(str(text).split()) for text in texts]


def _first_object(text: str) -> dict[str, Any] | None:
    """The first JSON object in a text that has `hints`, else the first of all; whatever stands around it."""
    decoder, start, first = json.JSONDecoder(), text.find("{"), None
    while start >= 0:
        try:
            found, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if "hints" in found:
                return dict(found)
            first = first or found
        start = text.find("{", end)
    return first


def _talk(failure: Failure, settings: Hints, author: Author) -> Talk[Told]:
    """Ask for a failure's hints: with fewer turns while the prompt does not fit, and again where the answer cannot be read."""
    turns = min(max(_lengths(failure)), author.turns)
    messages = prompting.prompt(failure, settings, turns)
    while (reply := (yield messages)).finish == "context":
        if turns <= _LEAST:
            raise AnswerError(
                f"{author.window}: episode {failure.episode.episode_id} does not fit with all but {_LEAST} turns left out; take a longer window, "
                "or a smaller max_tokens"
            )
        turns = max(_LEAST, turns // 2)
        messages = prompting.prompt(failure, settings, turns)
    replies = [reply]
    texts, fault = _texts(reply)
    if fault:
        mended = yield [*messages, Message("assistant", reply.text), prompting.repair(fault)]
        if mended.finish != "context":
            replies.append(mended)
            texts, fault = _texts(mended)
    answer = _answer(failure, author, turns, replies, "hints" if texts else _reason(replies[-1], fault))
    hints = [hint_of(failure.episode, author.writer, text, _evidence(failure)) for text in texts]
    return hints, answer, [] if texts else [_rejection(answer, fault)]


def _lengths(failure: Failure) -> list[int]:
    """How many turns the traces have that are shown."""
    return [len(episode.turns) for episode in (failure.episode, failure.success) if episode is not None]


def _reason(last: Reply, fault: str) -> str:
    """Why an answer holds no hints."""
    if not fault:
        return "none"
    return "cut" if last.finish == "length" else "unreadable"


def _answer(failure: Failure, author: Author, turns: int, replies: Sequence[Reply], outcome: str) -> Answer:
    """What was asked about a failure, at most `turns` turns of a trace shown, and what came of it at what cost."""
    episode, price = failure.episode, author.prices
    prompt_tokens = sum(reply.prompt_tokens for reply in replies)
    reply_tokens = sum(reply.reply_tokens for reply in replies)
    return Answer(
        SCHEMA_VERSION,
        episode.episode_id,
        episode.task_id,
        episode.env,
        episode.agent,
        episode.category,
        author.writer,
        author.model,
        prompting.version(),
        probed=failure.probe is not None,
        contrast=failure.success.episode_id if failure.success else "",
        elided=sum(max(0, length - turns) for length in _lengths(failure)),
        calls=len(replies),
        outcome=outcome,
        reply=replies[-1].text,
        prompt_tokens=prompt_tokens,
        reply_tokens=reply_tokens,
        dollars=(prompt_tokens * price.prompt + reply_tokens * price.reply) / 1e6 if price else 0.0,
    )


def _rejection(answer: Answer, fault: str) -> Rejection:
    place = (answer.env, answer.agent, answer.category)
    text = answer.reply[:240]
    return Rejection(
        SCHEMA_VERSION, *place, text, answer.writer, answer.outcome, fault, answer.episode_id, answer.task_id
    )


def _texts(reply: Reply) -> tuple[list[str], str]:
    """What an answer holds, and why it cannot be read."""
    try:
        return read_hints(reply), ""
    except Unreadable as fault:
        return [], str(fault)


def _evidence(failure: Failure) -> str:
    """What a hint rests on, in words."""
    said = [f"the trace of {len(failure.episode.turns)} turns"]
    if failure.probe:
        said.append(f"a probe ({failure.probe.outcome})")
    if failure.success:
        said.append(f"the success {failure.success.episode_id[:8]}")
    return ", ".join(said)
