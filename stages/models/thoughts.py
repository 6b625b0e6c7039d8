"""How a family of models marks its thoughts, and what it begins a reply with. In texts and records all thoughts stand between `<think>` and `</think>`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from stages.core.thinking import THOUGHT

KNOWN = (
    THOUGHT,  # DeepSeek, GLM, Nemotron, Qwen3 and most others
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<mm:think>", "</mm:think>"),  # MiniMax
)
"""Marks of families whose templates do not write thoughts themselves; from the templates that do, marks are read."""


@dataclass(frozen=True)
class Marks:
    """`opening` and `closing` stand around a thought, both empty where none is known of; `plain` is what the model itself writes before what it
    says (gpt-oss: the channel), beyond what stands in the prompt."""

    opening: str = ""
    closing: str = ""
    plain: str = ""

    @property
    def own(self) -> bool:
        """Whether they are others than those of records."""
        return self.opening not in ("", THOUGHT[0])

    def read(self, written: str) -> str:
        """What a model wrote, in the marks of records."""
        text = written.removeprefix(self.plain)
        if not self.own:
            return text
        text = text.replace(self.opening, THOUGHT[0])
        return text.replace(self._aloud, THOUGHT[1]).replace(self.closing, THOUGHT[1])

    def write(self, text: str) -> str:
        """What the model writes to give a reply: the inverse of `read`."""
        plain = "" if self.own and text.lstrip().startswith(THOUGHT[0]) else self.plain
        if self.own:
            text = text.replace(THOUGHT[0], self.opening).replace(THOUGHT[1], self._aloud)
        return plain + text

    @property
    def _aloud(self) -> str:
        """What leads over from a thought to what is said."""
        return self.closing if self.closing.endswith(self.plain) else self.closing + self.plain


def marks(source: str, added: Collection[str], plain: str, around: tuple[str, str] | None) -> Marks:
    """Of a model with this chat template and these added tokens. `around` is what the template writes on both sides of a thought that it is given
    apart from what is said, None where it leaves it out."""
    if THOUGHT[1] in source:
        return Marks(*THOUGHT)
    if around:
        return Marks(around[0].rstrip(), around[1].strip(), plain)
    for opening, closing in KNOWN:
        if closing in source or closing in added:
            return Marks(opening, closing, plain)
    return Marks(plain=plain)
