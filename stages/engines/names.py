"""Under which names a server has the base model and a student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stages.core.sections import Connection, Server
from stages.engines.answers import Card
from stages.engines.base import EngineFault


class Names:
    """`served` are the names that the server lists, `base` is the base model's, `model` the one that plays: of a student with `adapter`, or the
    base's own. A list that lacks one is believed, for some servers answer to any name.

    Raises `EngineFault` when a name is not to be had, or its window is shorter than `context`.
    """

    def __init__(self, server: Connection, adapter: Path | None, cards: Sequence[Card], context: int) -> None:
        self.served = [card.id for card in cards]
        self._url, self._adapter, self._place = server.url.rstrip("/"), adapter, server.place
        self._form, self._role = (
            (server.student, " of the base model") if isinstance(server, Server) else ("{name}", "")
        )
        self._folder = adapter.parent.name if adapter else ""
        self.base = server.model or self._only([card for card in cards if not card.parent])
        self.model = self._form.format(name=self._folder, base=self.base) if adapter else self.base
        if not self._lists(self.base):
            raise EngineFault(self.lacks(self.base, self.served))
        if not (self._lists(self.model) or (adapter and self._lists(self._folder))):
            raise EngineFault(self.lacks(self.model, self.served))
        for card in cards:
            if card.id in (self.base, self.model) and card.max_model_len is not None and card.max_model_len < context:
                raise EngineFault(
                    f"{self._url} serves {card.id} with a window of {card.max_model_len} tokens, {server.window} is {context}: "
                    f"start the server with a longer one (vLLM: --max-model-len), or lower {server.window}"
                )

    def lacks(self, name: str, listed: Sequence[str]) -> str:
        """What to say of a name that is not served."""
        text = f"{self._url} does not serve {name!r}; its models: {', '.join(listed) or 'unknown, it gives no list'}. "
        if name == self.base:
            compared = ", which a student is compared with before it plays" if self._adapter else ""
            return (
                f"{text}Give {self._place}.model the right name{self._role}{compared}, or {self._place}.url the right address "
                "(it ends in /v1)"
            )
        return (
            f"{text}Start the server with the student's adapter under that name (vllm serve ... --enable-lora --lora-modules "
            f"{self._folder}={self._adapter}), or give engine.server.student the form in which it names students, and run again"
        )

    def same(self, by_text: bool) -> str:
        """What to say of a student that answers as its base does."""
        what = (
            "the same text, and the server gives no log-probabilities to tell them apart by"
            if by_text
            else ("with the same log-probabilities")
        )
        return (
            f"{self._url}: asked the same, {self.model!r} and its base {self.base!r} answer {what}: nothing shows that the student's adapter is "
            f"applied. Serve {self._adapter} under that name, or, where an adapter goes with its base (SGLang), "
            'set engine.server.student to "{base}:{name}"'
        )

    def _lists(self, name: str) -> bool:
        return not self.served or name in self.served or f"models/{name}" in self.served

    def _only(self, cards: Sequence[Card]) -> str:
        """The base model of a server that has just one besides students."""
        names = [card.id for card in cards if self._folder == "" or not card.id.endswith(self._folder)]
        if len(names) != 1:
            found = f"it serves {', '.join(self.served)}" if self.served else "it gives no list of its models"
            raise EngineFault(f"{self._url}: which model? {found}; give {self._place}.model its name")
        return names[0]
