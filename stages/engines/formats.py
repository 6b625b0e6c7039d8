"""Answers of a given form: how a server is asked to hold a reply to a JSON schema, and what is asked of one that refuses.

Sources: `response_format` of OpenAI's Chat Completions, which vLLM, SGLang and llama.cpp take too; OpenAI's strict schemas have no bounds of length.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

_ABOUT = re.compile(r"response_format|json_schema|json_object|schema|grammar|structured|guided", re.I)
_BOUNDS = frozenset({"maxLength", "maxItems"})


class Formats:
    """What stands in a request for a reply of the form `schema`: the whole schema, one without bounds, any JSON, nothing. The server takes the first
    that it does not refuse."""

    def __init__(self, url: str, schema: Mapping[str, Any] | None) -> None:
        self._url = url
        self._left: list[tuple[str, dict[str, Any]]] = [("nothing", {})]
        if schema is not None:
            self._left = [
                ("a JSON schema", _strict(schema)),
                ("a JSON schema without bounds", _strict(_unbounded(schema))),
                ("JSON", {"response_format": {"type": "json_object"}}),
                *self._left,
            ]

    @property
    def asked(self) -> dict[str, Any]:
        """What is asked now."""
        return self._left[0][1]

    def gives_way(self, refused: Mapping[str, Any], said: str) -> bool:
        """Whether to ask again after a server has refused a request in words: for less, where it spoke of the form and that is not yet done."""
        if refused is not self.asked:
            return True
        if len(self._left) == 1 or not _ABOUT.search(said):
            return False
        form, _ = self._left.pop(0)
        tqdm.write(
            f"engine: {self._url} refuses {form} for replies: asked for {self._left[0][0]} from here on",
            file=sys.stderr,
        )
        return True


def _strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {"name": "answer", "strict": True, "schema": dict(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": wanted}}


def _unbounded(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {key: _unbounded(value) for key, value in schema.items() if key not in _BOUNDS}
    return schema
