"""A model's chat template: messages as text, and that text as ids.

Control tokens (`<|im_end|>`) that stand in an observation, or in a reply, are its text: only the template writes real ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

from stages.core.process import Fault
from stages.core.records import Message
from stages.core.thinking import THOUGHT, aloud
from stages.models.identity import template_of
from stages.models.manifest import model_folder
from stages.models.thoughts import Marks, marks

CLOCK = "strftime_now"
"""The function by which templates ask for the date; as an argument of `model.template` it is the day that they are told."""

_CUT = "\ufdd0"  # a noncharacter: where it stands a text is cut, and each piece encoded by itself
PROBE = (
    Message("system", "Probed system."),
    Message("user", "Probed opening."),
    Message("assistant", "Probed reply.", train=True),
    Message("user", "Probed observation."),
    Message("assistant", "Another reply.", train=True),
)


class ChatError(Fault, ValueError):
    """A conversation, or any with this model's chat template, cannot be encoded: says why."""


def common(a: Sequence[object], b: Sequence[object]) -> int:
    """How many members two sequences begin with in common."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((place for place, (x, y) in pairs if x != y), min(len(a), len(b)))


def open_chat(folder: Path, record: Path | None = None) -> Chat:
    """The chat of the model that a folder holds or stands for, with the template's arguments in `record` (its identity.json if not given).

    Raises `ChatError` when there is no usable tokenizer or template.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model_folder(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ChatError(f"no usable tokenizer in {folder} ({reason}); run `dvc repro`") from error
    return Chat(tokenizer, template_of(record or folder / "identity.json"))


class Chat:
    """A tokenizer with its chat template and the template's arguments.

    `closing` is what the template writes right after a reply, up to its end token, `end`; `opener` is the beginning of a thought that stands in
    the prompt already, and that the text of every reply begins with. `thinks` says whether replies may hold thoughts. Raises `ChatError` for a template that cannot work.
    """

    def __init__(self, tokenizer: Any, arguments: Mapping[str, Any] | None = None) -> None:
        self.tokenizer = tokenizer
        # Some tokenizers put a space before a text, which has no place where the text goes on from another.
        self._spaced = False
        self._spaced = self._ids("\na") != [*self._ids("\n"), *self._ids("a")]
        source = _source(tokenizer)
        self._arguments = {**(arguments or {})}
        for name in self._arguments:
            if not re.search(rf"\b{re.escape(name)}\b", source):
                raise ChatError(f"model.template names {name!r}, which the model's chat template does not use")
        self._source = _dated(source, self._arguments.pop(CLOCK, None))
        added = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
        special = {*tokenizer.all_special_tokens, *(text for text, is_special in added.items() if is_special)}
        named = {text for text in added if text.strip() and text in self._source}
        self._forged = _any_of(special | named)
        # A model's own thoughts are its own to open and close.
        self._written = _any_of(special - {*THOUGHT})
        self._takes_thoughts = bool(re.search(r"reasoning_content|message\.thinking", source))
        self._parts = self._folded = False
        self.marks = Marks()
        self._form()
        self.marks = self._marks(added)
        self.closing, self.end = self._closing(special)
        self.opener, self.thinks = self._thinking()

    def prompt(self, messages: Sequence[Message], reply_next: bool = True) -> str:
        """The conversation as the template writes it, up to where the next reply begins; `encode` takes control tokens in its texts for text."""
        plain = [self._plain(message) for message in self._merged(messages)]
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    plain,
                    chat_template=self._source,
                    tokenize=False,
                    add_generation_prompt=reply_next,
                    **self._arguments,
                )
            )
        except Exception as error:  # a template may raise anything
            raise ChatError(f"the model's chat template fails: {' '.join(str(error).split())}") from error

    def encode(self, text: str, after: str = "") -> list[int]:
        """Ids of a text that `prompt` or `written` gave, or of a part of it that stands after such a text, with no tokens added."""
        first, *later = text.split(_CUT)
        return [*self._ids(first, after), *(i for piece in later for i in self._ids(piece, "\n"))]

    def _ids(self, piece: str, after: str = "") -> list[int]:
        if after and piece and self._spaced:
            before, whole = self._ids(after), self._ids(after + piece)
            if whole[: len(before)] == before:
                return whole[len(before) :]
        return list(self.tokenizer(piece, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a reply, out of its ids with the end token."""
        before = self._ids("\n")
        return self.read(
            self.tokenizer.decode([*before, *ids[:-1]], clean_up_tokenization_spaces=False).removeprefix("\n")
        )

    def read(self, written: str) -> str:
        """The text of a reply, out of what the model wrote up to its end token."""
        return self.marks.read(self.opener + written.removesuffix(self.closing.removesuffix(self._end_text)))

    def written(self, reply: str) -> str:
        """What the model writes when it gives this reply, but for its closing."""
        return self.marks.write(self._written.sub(_cut, reply)).removeprefix(self.opener)

    def _merged(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Where the template knows no system role, its text opens the first user message."""
        if not self._folded or not messages or messages[0].role != "system":
            return messages
        system, first, *later = messages
        return [Message(first.role, f"{system.content}\n\n{first.content}"), *later]

    def _plain(self, message: Message) -> dict[str, Any]:
        own = message.role == "assistant"
        text = (self._written if own else self._forged).sub(_cut, message.content)
        apart = {}
        if own and self._takes_thoughts:
            thought, text = _thought(text)
            apart = {} if thought is None else dict.fromkeys(("reasoning_content", "thinking"), thought)
        elif own and self.marks.own:
            text = aloud(text)
        content = [{"type": "text", "text": text}] if self._parts else text
        return {"role": message.role, "content": content, **apart}

    def _form(self) -> None:
        """Find out whether system texts must go into the first user message, and whether contents must be lists of parts."""
        failures = []
        for self._parts, self._folded in product((False, True), (False, True)):
            try:
                text = self.prompt(PROBE[:4])
            except ChatError as error:
                failures.append(error)
                continue
            missing = [message.content for message in PROBE[:4] if message.content not in text]
            if not missing:
                return
            failures.append(ChatError(f"the model's chat template leaves texts out, such as {missing[0]!r}"))
        raise failures[0]

    def _marks(self, added: Collection[str]) -> Marks:
        """How the template marks thoughts, and what it writes before a reply beyond the prompt."""
        _, opening, said = PROBE[:3]
        thought = "Probed thought."

        def header(reply: str | None) -> str:
            talk = [*PROBE[:2], *([] if reply is None else [replace(said, content=reply)])]
            text = self.prompt(talk, reply_next=reply is None).rpartition(opening.content)[2]
            return text if reply is None else text.rpartition(said.content)[0]

        prompt, bare = header(None), header(said.content)
        shared = common(prompt, bare)
        shared = next((m.start() for m in self._forged.finditer(bare) if m.start() < shared < m.end()), shared)
        plain = bare[shared:] if self._forged.search(bare, shared) else ""
        before, found, after = header(f"{THOUGHT[0]}{thought}{THOUGHT[1]}{said.content}").partition(thought)
        around = (before[common(prompt, before) :], after) if found and self._takes_thoughts else None
        return marks(self._source, added, plain, around)

    def _closing(self, special: set[str]) -> tuple[str, int]:
        """What ends a reply, whatever comes next, and the id of its last token."""
        text = PROBE[2].content
        last, amid = (self.prompt(PROBE[:n], reply_next=n > 3).rpartition(text)[2] for n in (3, 4))
        after, eos = last[: common(last, amid)], self.tokenizer.eos_token
        ends = [eos] if eos and eos in after else sorted((t for t in special if t in after), key=after.index)
        closing = after[: after.index(ends[0]) + len(ends[0])] if ends else eos
        if not closing:
            raise ChatError("the model has no end token: neither its chat template nor its tokenizer names one")
        self._end_text = ends[0] if ends else eos
        return closing, int(self.tokenizer.convert_tokens_to_ids(self._end_text))

    def _thinking(self) -> tuple[str, bool]:
        """The beginning of a thought at the end of a prompt, and whether replies are to be expected to hold thoughts."""
        header = self.prompt(PROBE[:4]).rpartition(PROBE[3].content)[2]
        if not self.marks.opening:
            return "", False
        start, end = header.rfind(self.marks.opening), header.rfind(self.marks.closing)
        opener = header[start:] if start > end else ""
        return opener, bool(opener) or end < 0


def _source(tokenizer: Any) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise ChatError("the model has no chat template; use an instruct model") from error


def _dated(source: str, day: object) -> str:
    """The template with `day` for today's date; where there is none it raises instead, as prompts would change from day to day."""
    try:
        told = None if day is None else date.fromisoformat(str(day))
    except ValueError:
        raise ChatError(f"model.template.{CLOCK}: a day such as '2026-01-31' expected, found {day!r}") from None
    unset = json.dumps(
        f"it writes today's date into prompts, which would change from day to day: fix it in model.template, by {CLOCK}: "
        "'2026-01-31' or by an argument of its own"
    )
    call = rf"{CLOCK}\s*\(\s*(['\"])(.*?)\1\s*\)"
    dated = re.sub(call, lambda c: json.dumps(told.strftime(c[2])) if told else f"raise_exception({unset})", source)
    others = re.sub(r"\{#.*?#\}", "", re.sub(call, "", source), flags=re.S)
    if re.search(rf"\b{CLOCK}\b(?!\s+is\s+(not\s+)?defined)", others):
        raise ChatError(f"the model's chat template asks {CLOCK} for a date in a form that is not written out in it")
    return dated


def _any_of(texts: Collection[str]) -> re.Pattern[str]:
    """Any of these texts, the longest that is there; nothing where there are none."""
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or r"(?!)")


def _cut(control: re.Match[str]) -> str:
    return control[0][0] + _CUT + control[0][1:]


def _thought(reply: str) -> tuple[str | None, str]:
    """A reply's thought, or None, and what is said after it; a thought that never ends is all there is."""
    opening, closing = THOUGHT
    thought, closed, said = reply.partition(closing)
    if not closed and not thought.lstrip().startswith(opening):
        return None, reply
    return thought.strip().removeprefix(opening).strip("\n"), said.lstrip("\n")
