"""What is read of a server's answers, however freely it keeps to the Chat Completions and Models routes of OpenAI's API reference.

Sources besides: answers as vLLM, SGLang, TGI, llama.cpp, Ollama, Mistral and hosted servers give them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, field_validator, model_validator

# What ends a whole reply, as OpenAI's reference names it, and as some servers do (TGI, Together, Anthropic's form).
_ENDS = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
}
_OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context|context (?:length|size|window)|maximum model length"
    r"|(?:prompt|input|messages)[^.\n]{0,60}?(?:too (?:long|large)|exceed)"
    r"|maximum (?:prompt|input) length|range of input length"
    r"|(?:reduce|shorten) (?:the length of )?(?:the|your) (?:prompt|input|messages)"
    r"|`?inputs`? (?:tokens \+|must have less than)",
    re.I,
)
_REFUSAL = re.compile(
    r"un(?:supported|known|recogni[sz]ed|expected)|(?:not|no longer) (?:supported|permitted|allowed)"
    r"|(?:does not|doesn't) (?:support|accept)|extra_forbidden",
    re.I,
)


class _Token(BaseModel):
    token: str
    logprob: float


class Place(_Token):
    """A token of a reply, with those that were likeliest in its place."""

    top_logprobs: list[_Token] = []


class _Logprobs(BaseModel):
    content: list[Place] | None = None


class _Message(BaseModel):
    """`content` is what is said, `thought` what the server's reasoning parser took out of it."""

    content: str
    thought: str

    @model_validator(mode="before")
    @classmethod
    def _joined(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            raise ValueError("expected a message")
        content = values.get("content") or ""
        parts = content if isinstance(content, list) else [content]
        thinking = [
            part for part in parts if isinstance(part, Mapping) and part.get("type") in ("thinking", "reasoning")
        ]
        said = [part for part in parts if part not in thinking]
        apart = values.get("reasoning_content") or values.get("reasoning")
        return {"content": _text(said), "thought": apart if isinstance(apart, str) else _text(thinking)}


class _Choice(BaseModel):
    message: _Message
    finish_reason: str
    logprobs: _Logprobs | None = None

    @field_validator("finish_reason")
    @classmethod
    def _ended(cls, reason: str) -> str:
        if reason not in _ENDS:
            raise ValueError(f"{reason!r}, and a reply is whole only with stop or length")
        return _ENDS[reason]


class _Details(BaseModel):
    cached_tokens: int | None = None


class Usage(BaseModel):
    """Tokens by the server's own count, as far as it gives one."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class Completion(BaseModel):
    """A chat completion that the engine behind it ended properly; any other is no reply."""

    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: Usage | None = None

    @property
    def said(self) -> str:
        return self.choices[0].message.content

    @property
    def thought(self) -> str:
        return self.choices[0].message.thought

    @property
    def finish(self) -> str:
        return self.choices[0].finish_reason

    @property
    def places(self) -> list[Place]:
        """The reply's tokens; none where the server gives no log-probabilities."""
        found = self.choices[0].logprobs
        return found.content or [] if found else []


class Card(BaseModel):
    """A model that the server has; vLLM adds its window in tokens and, to an adapter, its base."""

    id: str
    max_model_len: int | None = None
    parent: Any = None


def cards(content: bytes) -> list[Card]:
    """The models of a list, in whatever form; none where it is none."""
    try:
        found = json.loads(content)
    except ValueError:
        return []
    listed = found.get("data") if isinstance(found, dict) else found
    models = [{"id": model} if isinstance(model, str) else model for model in listed or [] if isinstance(listed, list)]
    return [
        Card.model_validate(model) for model in models if isinstance(model, dict) and isinstance(model.get("id"), str)
    ]


def overflows(text: str) -> bool:
    """Whether an error says that the prompt is too long."""
    return bool(_OVERFLOW.search(text))


def refuses(name: str, text: str) -> bool:
    """Whether an error says that the server does not take a parameter of that name."""
    return bool(re.search(rf"\b{name}\b", text) and _REFUSAL.search(text))


def _text(part: Any) -> str:
    """The text of a content, a part of one, or several."""
    if isinstance(part, list):
        return "".join(map(_text, part))
    if isinstance(part, Mapping):
        return _text(part.get("text") or part.get("thinking") or part.get("content") or "")
    if not isinstance(part, str):
        raise ValueError(f"expected text, found {part!r:.80}")
    return part
