"""Tokens counted here, for a server that does not say how many it read and wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.core.records import Message
from stages.engines.base import EngineFault
from stages.models.chat import ChatError, open_chat
from stages.models.hub import ModelError


class Counter:
    """Counts by the tokenizer of the base model in `folder`, as its chat template lays a conversation out.

    Raises `EngineFault` when there is none, or one without a template.
    """

    def __init__(self, folder: Path | None) -> None:
        try:
            if folder is None:
                raise ChatError("no folder of the base model is given")
            self._chat = open_chat(folder)
        except (OSError, ValueError, ModelError) as error:
            raise EngineFault(
                f"the server does not say how many tokens it reads and writes (`usage`), and {folder} has no tokenizer to count them by: {error}"
            ) from error

    def prompt(self, messages: Sequence[Message]) -> int:
        return self.text(self._chat.prompt(messages))

    def text(self, text: str) -> int:
        return len(self._chat.encode(text))
