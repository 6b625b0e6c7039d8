"""Chat messages as tokens: the one place where the engine and the trainer agree on what the model sees.

A conversation is cut into segments at the ends of assistant messages. The context between two replies (closing of the
last one, the new observation, the header of the next reply) is rendered by the model's own chat template and encoded by
itself; each reply is encoded by itself with its end token. So a prompt grows by whole segments, its prefix never changes,
and the ids a student is trained on are the ids it meets when it acts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.core.process import Fault
from stages.core.records import Message

IGNORED = -100


class ChatError(Fault, ValueError):
    """The model's chat template cannot be used turn by turn."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of a conversation; `labels` repeats an id where it carries loss and holds -100 elsewhere."""

    input_ids: list[int]
    labels: list[int]


def render(tokenizer: Any, messages: Sequence[Message], reply_next: bool) -> str:
    """The conversation as the template writes it; `reply_next` adds the header of an assistant message."""
    plain = [{"role": m.role, "content": m.content} for m in messages]
    return str(tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=reply_next))


def context_text(tokenizer: Any, messages: Sequence[Message], known: int) -> str:
    """What the prompt gains when `messages` has grown beyond its first `known` ones, the last of which is a reply.

    Raises `ChatError` for a template that rewrites earlier turns (then a prefix could not be kept).
    """
    text = render(tokenizer, messages, reply_next=True)
    if known == 0:
        return text
    before = render(tokenizer, messages[: known - 1], reply_next=True)
    before += messages[known - 1].content + str(tokenizer.eos_token)
    if not text.startswith(before):
        raise ChatError(
            "the chat template changes earlier turns as a conversation grows; use a template that only appends"
        )
    return text[len(before) :]


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Ids of one segment, with no tokens added."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def encode(tokenizer: Any, messages: Sequence[Message]) -> Encoded:
    """Ids and loss mask of a whole conversation that ends with a reply. Raises `ChatError` when it does not."""
    if not messages or messages[-1].role != "assistant":
        raise ChatError("a training conversation must end with an assistant message")
    ids: list[int] = []
    labels: list[int] = []
    known = 0
    for end, message in enumerate(messages):
        if message.role != "assistant":
            continue
        context = encode_text(tokenizer, context_text(tokenizer, messages[:end], known))
        reply = [*encode_text(tokenizer, message.content), int(tokenizer.eos_token_id)]
        ids += context + reply
        labels += [IGNORED] * len(context) + (reply if message.train else [IGNORED] * len(reply))
        known = end + 1
    return Encoded(ids, labels)
