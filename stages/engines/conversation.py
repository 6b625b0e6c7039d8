"""A conversation as an engine keeps it: token ids that only grow, segment by segment, as `stages.models.chat` cuts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.core.records import Message
from stages.models.chat import context_text, encode_text


@dataclass
class Conversation:
    """`ids` are the tokens so far, of which the prompt of the reply that is being written ends at `prompt_end`; `messages` counts those
    that `ids` hold."""

    ids: list[int] = field(default_factory=list)
    messages: int = 0
    prompt_end: int = 0

    def ask(self, tokenizer: Any, messages: Sequence[Message]) -> None:
        """Take in what the prompt has gained; `messages` is the whole conversation, earlier turns as they were."""
        self.ids += encode_text(tokenizer, context_text(tokenizer, messages, self.messages))
        self.messages = len(messages) + 1
        self.prompt_end = len(self.ids)

    def answer(self, tokenizer: Any, text: str) -> int:
        """Close the reply: the conversation goes on after its text and the end token, whatever else was written. Returns how many of the
        ids so far are still right."""
        ids = [*self.ids[: self.prompt_end], *encode_text(tokenizer, text), int(tokenizer.eos_token_id)]
        pairs = enumerate(zip(self.ids, ids, strict=False))
        same = next((place for place, (old, new) in pairs if old != new), min(len(self.ids), len(ids)))
        # The end token opens what the next ask() adds: the template's own text begins after it.
        self.ids = ids
        return same
