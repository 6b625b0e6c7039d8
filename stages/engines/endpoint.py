"""An OpenAI-compatible server as seen from here: it is asked, waited for when it is busy, asked again when it breaks, and what is wrong with
it is said in words. The key is read from the environment and stands in no message.

Why not the client of the package `openai` (3.57): it does not look at what it hands out, so that a reply that was broken off, or whose fields are
null, passes with status 200, and every answer would be checked and asked again out here all the same: two loops of tries, one in the other. Its
time-out is for each read, so that a server that drips is waited for without end; pauses grow to 8 s only, and one of more than two minutes that a
server asks for ends the tries; without a key it does not start. It would be a dependency for the one loop in `_ask`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import sys
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError
from tqdm import tqdm

from stages.core.sections import Connection
from stages.engines.answers import Card, Completion, cards, overflows, refuses
from stages.engines.base import EngineFault
from stages.engines.proxy import proxy_for

LONGEST_PAUSE = 300.0  # seconds between two tries at most, whatever the server asks for
_LIST_TIMEOUT = 10.0  # seconds for the list of models, which costs a server nothing
_BUSY = frozenset({408, 425, 429})  # with 5xx: worth another try
_KEY = re.compile(r"[!-~]*")
# Parameters that some servers refuse, and what is asked in their place: nothing where the reply does not hang on it.
_INSTEAD: dict[str, str | None] = {"max_tokens": "max_completion_tokens", "seed": None, "stop": None}

Read = TypeVar("Read")


class Refused(Exception):
    """This request failed for good, after all tries; others may not."""


class Denied(Refused):
    """The server understood this request and refuses it, whatever the try."""


class Overflow(Exception):
    """The prompt is longer than the server's window."""


class Unknown(Exception):
    """The server has no such route or model."""


class Endpoint:
    """One server, with at most `connections` requests in flight. `pause` waits that many seconds before another try.

    Raises `EngineFault` when there is a key that no header can hold, or when the URL is none.
    """

    def __init__(
        self, server: Connection, connections: int, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.url = server.url.rstrip("/")
        self._key_variable, self._timeout, self._retries = server.key_variable, server.timeout, server.retries
        self._pause, self._place = pause, server.place
        self._key = os.environ.get(server.key_variable, "").strip()
        if not _KEY.fullmatch(self._key):
            raise EngineFault(
                f"{server.key_variable}: a key has no spaces, line breaks or special letters; set it anew"
            )
        self._jitter = random.Random(0)  # spreads the tries of many sessions; no result depends on it
        self._met = False
        self._instead: dict[str, str | None] = {}  # as far as the server refused what is asked otherwise
        self._client, self._through = self._connect(connections)

    def _connect(self, connections: int) -> tuple[httpx.AsyncClient, str]:
        """A pool of connections, and the proxy that they go through in words."""
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        through = ""
        try:
            _ = urlsplit(self.url).port  # a port that is none is refused here; httpx takes it
            proxy = proxy_for(self.url)
            through = f", through {proxy.words}" if proxy else ""
            client = httpx.AsyncClient(
                base_url=self.url,
                headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
                timeout=None,  # each request has one deadline, around all of its parts
                transport=httpx.AsyncHTTPTransport(limits=limits, proxy=proxy.url if proxy else None),
            )
        except ImportError:
            raise EngineFault(
                f"{self.url}{through}: SOCKS needs `pip install 'httpx[socks]'`; or name the server's host in NO_PROXY"
            ) from None
        except (ValueError, httpx.InvalidURL) as error:
            what = f"{self.url}{through}: no usable proxy" if through else f"{self._place}.url {self.url} is no URL"
            raise EngineFault(f"{what}: {error}") from None
        return client, through

    async def complete(self, body: dict[str, Any]) -> Completion:
        """A chat completion. What a server refuses of the request and a reply does not hang on is left out or asked otherwise from then on.

        Raises `Refused`, `Overflow`, `Unknown`, or `EngineFault` when the server cannot be used at all.
        """
        while True:
            asked = self._worded(body)
            try:
                return await self._ask(
                    "POST", "/chat/completions", asked, Completion.model_validate_json, self._timeout
                )
            except Denied as refusal:
                named = [name for name in _INSTEAD if asked.get(name) is not None and refuses(name, str(refusal))]
                if not named:
                    raise
                self._give_way(named)

    async def models(self) -> list[Card]:
        """What the server says that it serves; empty where it gives no list."""
        try:
            return await self._ask("GET", "/models", None, cards, min(_LIST_TIMEOUT, self._timeout))
        except (Unknown, Denied, Overflow):
            return []
        except Refused as failure:
            raise EngineFault(str(failure)) from None

    async def close(self) -> None:
        await self._client.aclose()

    def _worded(self, body: dict[str, Any]) -> dict[str, Any]:
        """A request in the parameters that the server takes."""
        named = ((self._instead.get(name, name), value) for name, value in body.items())
        return {name: value for name, value in named if name}

    def _give_way(self, names: list[str]) -> None:
        """Ask otherwise from here on; requests that were on their way meanwhile find that done."""
        for name in names:
            if name not in self._instead:
                other = self._instead[name] = _INSTEAD[name]
                how = f"asked with {other}" if other else "asked without it"
                tqdm.write(f"engine: {self.url} refuses {name}: {how} from here on", file=sys.stderr)

    async def _ask(self, method: str, path: str, body: Any, read: Callable[[bytes], Read], timeout: float) -> Read:
        for tries in itertools.count(1):
            wait, gone = 0.0, False
            try:
                async with asyncio.timeout(timeout):
                    answer = await self._client.request(method, path, json=body)
                self._met = True
                if answer.status_code == 200:
                    return read(answer.content)
                self._final(answer)
                reason, wait = self._words(answer), _retry_after(answer)
            except ValidationError as error:
                if overflows(answer.text) and '"choices"' not in answer.text:  # an error with status 200
                    raise Overflow(self._words(answer)) from None
                reason = self._excerpt(f"an answer that is no reply ({_first(error)}): {answer.text}")
            except TimeoutError:
                reason = f"no answer within {timeout:g} s ({self._place}.timeout){self._through}"
            except httpx.RequestError as error:
                reason = self._excerpt(f"{type(error).__name__} {error}") + self._through
                gone = isinstance(error, httpx.ConnectError)
            if not self._met:
                raise EngineFault(
                    f"no server at {self.url} ({reason}); start it, or change {self._place}.url{self._around}"
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
            raise EngineFault(
                f"{self.url} wants a key (HTTP {status}): see the variable {self._key_variable}; {state}{self._through}"
            )
        if status == 404:
            raise Unknown(self._words(answer))
        if status not in _BUSY and overflows(answer.text):
            raise Overflow(self._words(answer))
        if status not in _BUSY and (status < 500 or status == 501):
            raise Denied(f"{self.url}: {self._words(answer)}")

    @property
    def _around(self) -> str:
        return ", or go around the proxy: NO_PROXY names hosts" if self._through else ""

    def _words(self, answer: httpx.Response) -> str:
        return f"HTTP {answer.status_code} {self._excerpt(answer.text)}{self._through}"

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


def _first(error: ValidationError) -> str:
    """What is wrong with an answer, in words."""
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg'].removeprefix('Value error, ')}"
