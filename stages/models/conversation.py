"""Conversations as tokens: the one place where engines and trainer agree on what the model sees.

A prompt is what the model's chat template writes of the conversation so far. Where it goes on from the last prompt and reply, only what it
gained is encoded, and earlier ids never change; where the template rewrites earlier turns (thoughts left out, texts trimmed) it is encoded
anew. Training walks through a conversation as an engine does, so the ids a student is trained on are the ids it meets when it acts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from stages.core.records import Message
from stages.models.chat import PROBE, Chat, ChatError, common

IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """Token ids of a training example; `labels` repeats an id where it carries loss and holds -100 elsewhere."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> list[int]:
        """The ids that carry loss."""
        return [label for label in self.labels if label != IGNORED]


@dataclass
class Conversation:
    """A conversation as an engine keeps it: `ids` are the tokens so far, of which the prompt of the reply that is being written ends at
    `prompt_end`; `text` is what they were made of, up to that end or the end of the last reply."""

    ids: list[int] = field(default_factory=list)
    text: str = ""
    prompt_end: int = 0

    def ask(self, chat: Chat, messages: Sequence[Message]) -> int:
        """Go on to the next prompt; `messages` is the whole conversation, earlier turns as they were. Returns how many of the ids so far are
        still right: all of them unless the template has rewritten something."""
        text = chat.prompt(messages)
        if text.startswith(self.text):
            same = len(self.ids)
            self.ids += chat.encode(text[len(self.text) :], self.text and chat.closing)
        else:
            ids = chat.encode(text)
            same, self.ids = min(common(self.ids, ids), len(ids) - 1), ids
        self.text, self.prompt_end = text, len(self.ids)
        return same

    def answer(self, chat: Chat, reply: str) -> int:
        """Close the reply: the conversation goes on after its text and the end token, whatever else was written. Returns how many of the
        ids so far are still right."""
        written = chat.written(reply)
        ids = [*self.ids[: self.prompt_end], *chat.encode(written, "\n"), *chat.encode(chat.closing, "\n")]
        same, self.ids = common(self.ids, ids), ids
        self.text += written + chat.closing
        return same


def examples(chat: Chat, messages: Sequence[Message]) -> list[Encoded]:
    """A conversation that ends with a reply as training examples: one as long as prompts go on from each other, a new one wherever the
    template rewrites earlier turns. Every trained reply carries loss once; an example without any is left out.

    Raises `ChatError` when the conversation does not end with a reply.
    """
    if not messages or messages[-1].role != "assistant":
        raise ChatError("a training conversation must end with an assistant message")
    talk = Conversation()
    found: list[Encoded] = []
    labels: list[int] = []
    for place, message in enumerate(messages):
        if message.role != "assistant":
            continue
        if talk.ask(chat, messages[:place]) < len(labels):
            labels = []
        elif found:
            found.pop()
        labels += [IGNORED] * (talk.prompt_end - len(labels))
        talk.answer(chat, message.content)
        reply = talk.ids[talk.prompt_end :]
        labels += reply if message.train else [IGNORED] * len(reply)
        found.append(Encoded(list(talk.ids), list(labels)))
    return [example for example in found if any(label != IGNORED for label in example.labels)]


def way(chat: Chat) -> str:
    """How prompts grow with this model's chat template, and what that means for lessons, in words."""
    thought = "<think>A thought.</think>" if chat.marks.own else "<think>\nA thought.\n</think>\n\n"
    thoughtful = [replace(m, content=thought + m.content) if m.train else m for m in PROBE]
    with_thoughts = len(examples(chat, thoughtful)) == 1
    plain = with_thoughts if chat.opener else len(examples(chat, PROBE)) == 1
    if plain and with_thoughts:
        return "its chat template appends: what is encoded stays, and a lesson is one training example"
    when = "once a reply holds a thought" if plain else "each turn"
    return f"its chat template renders earlier turns anew {when}: what they begin with alike stays encoded, and a lesson is a training example a turn"
