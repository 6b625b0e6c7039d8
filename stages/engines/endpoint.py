"""An OpenAI-compatible server as seen from here: it is asked, waited for when it is busy, asked again when it breaks, and what is wrong with
it is said in words. The key is read from the environment and stands in no message.

Source: the Chat Completions and Models routes of OpenAI's API reference, as vLLM, SGLang and llama.cpp serve them.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, Field, ValidationError

from stages.core.params import Server
from stages.engines.base import EngineFault

LONGEST_PAUSE = 300.0  # seconds between two tries at most, whatever the server asks for
_LIST_TIMEOUT = 10.0  # seconds for the list of models, which costs a server nothing
_BUSY = frozenset({408, 425, 429})  # with 5xx: worth another try
_KEY = re.compile(r"[!-~]*")
# What servers say of a prompt that is too long: OpenAI (`context_length_exceeded`) and vLLM ("maximum context length is"), llama.cpp
# (`exceed_context_size_error`, also with status 500), SGLang ("longer than the model's context length").
_OVERFLOW = re.compile(
    r"context_length_exceeded|context (?:length|size|window)|maximum model length|exceed_context", re.I
)

Read = TypeVar("Read", bound=BaseModel)


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Details(BaseModel):
    cached_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _Details | None = None


class Completion(BaseModel):
    """What is read of a chat completion."""

    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Usage


class Card(BaseModel):
    """A model that the server has; vLLM adds its window in tokens."""

    id: str
    max_model_len: int | None = None


class _Cards(BaseModel):
    data: list[Card]


class Refused(Exception):
    """This request failed for good, after all tries; others may not."""


class Overflow(Exception):
    """The prompt is longer than the server's window."""


class Unknown(Exception):
    """The server has no such route or model."""


class Endpoint:
    """One server, with at most `connections` requests in flight. `pause` waits that many seconds before another try.

    Raises `EngineFault` when there is a key that no header can hold, or when the URL is none.
    """

    def __init__(
        self, server: Server, connections: int, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.url = server.url.rstrip("/")
        self._key_variable, self._timeout, self._retries = server.key_variable, server.timeout, server.retries
        self._pause = pause
        self._key = os.environ.get(server.key_variable, "").strip()
        if not _KEY.fullmatch(self._key):
            raise EngineFault(
                f"{server.key_variable}: a key has no spaces, line breaks or special letters; set it anew"
            )
        self._jitter = random.Random(0)  # spreads the tries of many sessions; no result depends on it
        self._met = False
        try:
            _ = urlsplit(self.url).port  # a port that is none is refused here; httpx takes it
            self._client = httpx.AsyncClient(
                base_url=self.url,
                headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
                timeout=None,  # each request has one deadline, around all of its parts
                limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            )
        except (ValueError, httpx.InvalidURL) as error:
            raise EngineFault(f"engine.server.url {self.url} is no URL: {error}") from None

    async def complete(self, body: dict[str, Any]) -> Completion:
        """A chat completion. Raises `Refused`, `Overflow`, `Unknown`, or `EngineFault` when the server cannot be used at all."""
        return await self._ask("POST", "/chat/completions", body, Completion, self._timeout)

    async def models(self) -> list[Card]:
        """What the server says that it serves; empty where it gives no list."""
        try:
            cards = await self._ask("GET", "/models", None, _Cards, min(_LIST_TIMEOUT, self._timeout))
        except Unknown:
            return []
        except (Refused, Overflow) as failure:
            raise EngineFault(str(failure)) from None
        return cards.data

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, method: str, path: str, body: Any, form: type[Read], timeout: float) -> Read:
        for tries in itertools.count(1):
            wait, gone = 0.0, False
            try:
                async with asyncio.timeout(timeout):
                    answer = await self._client.request(method, path, json=body)
                self._met = True
                if answer.status_code == 200:
                    return form.model_validate_json(answer.content)
                self._final(answer)
                reason, wait = self._words(answer), _retry_after(answer)
            except ValidationError:
                reason = f"an answer that cannot be read: {self._excerpt(answer.text)}"
            except TimeoutError:
                reason = f"no answer within {timeout:g} s (engine.server.timeout)"
            except httpx.RequestError as error:
                reason = self._excerpt(f"{type(error).__name__} {error}")
                gone = isinstance(error, httpx.ConnectError)
            if not self._met:
                raise EngineFault(
                    f"no server at {self.url} ({reason}); start it, or change engine.server.url"
                ) from None
            if tries > self._retries:
                break
            backoff = 2.0 ** (tries - 1) * self._jitter.uniform(0.5, 1)
            await self._pause(min(LONGEST_PAUSE, max(wait, backoff)))
        text = f"{self.url}{path}, try {tries}: {reason}"
        raise EngineFault(f"the server is gone: {text}; start it and run again") if gone else Refused(text)

    def _final(self, answer: httpx.Response) -> None:
        """Raise what another try would not mend."""
        status = answer.status_code
        if status in (401, 403):
            state = "the key there is refused" if self._key else "it is not set"
            raise EngineFault(f"{self.url} wants a key (HTTP {status}): see the variable {self._key_variable}; {state}")
        if status == 404:
            raise Unknown(self._words(answer))
        if status not in _BUSY and _OVERFLOW.search(answer.text):
            raise Overflow(self._words(answer))
        if status not in _BUSY and status < 500:
            raise Refused(f"{self.url}: {self._words(answer)}")

    def _words(self, answer: httpx.Response) -> str:
        return f"HTTP {answer.status_code} {self._excerpt(answer.text)}"

    def _excerpt(self, text: str) -> str:
        """The beginning of what a server said, in one line and without the key."""
        bare = text.replace(self._key, "***") if self._key else text
        return " ".join(bare.split())[:300] or "(empty)"


def _retry_after(answer: httpx.Response) -> float:
    """Seconds that the server asks to wait, in either form of the header (RFC 9110, 10.2.3); 0 without one."""
    told = answer.headers.get("retry-after", "")
    try:
        return float(told) if told.strip().isdigit() else parsedate_to_datetime(told).timestamp() - time.time()
    except (TypeError, ValueError):
        return 0.0
