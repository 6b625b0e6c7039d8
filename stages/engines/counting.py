"""Tokens counted here, for a server that does not say how many it read and wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.records import Message
from stages.engines.base import EngineFault


class Counter:
    """Counts by the tokenizer of the base model in `folder`, as its chat template lays a conversation out.

    Raises `EngineFault` when there is none, or one without a template.
    """

    def __init__(self, folder: Path | None) -> None:
        from transformers import AutoTokenizer  # takes seconds to import, and most servers count

        try:
            if folder is None:
                raise ValueError("no folder of the base model is given")
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
            self.prompt([Message("user", "")])
        except (OSError, ValueError) as error:
            raise EngineFault(
                f"the server does not say how many tokens it reads and writes (`usage`), and {folder} has no tokenizer to count them by: {error}"
            ) from error

    def prompt(self, messages: Sequence[Message]) -> int:
        plain = [{"role": message.role, "content": message.content} for message in messages]
        return self.text(self._tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True))

    def text(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])
