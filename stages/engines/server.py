"""Any OpenAI-compatible server (vLLM, SGLang, llama.cpp, a hosted one): the model runs there, and each turn is a request with the whole
conversation. The server applies its own chat template, and keeps prefixes if it can.

Requests run in an event loop of their own thread, so they are on their way while the caller does something else.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stages.core.params import Server
from stages.core.records import Message
from stages.engines.base import EngineFault, Reply
from stages.engines.endpoint import Card, Completion, Endpoint, Overflow, Refused, Unknown
from stages.models.chat import CLOCK, end_of

_HOPELESS = 2  # times `slots` failures in a row, with no reply between them, and the server is given up


class ServerEngine:
    """See `stages.engines.base.Engine`. `context` is the window in tokens, by the server's own counts; `max_new_tokens` a reply's limit; `template` the
    arguments of the chat template, `thinks` whether replies may hold thoughts. A
    request that fails for good is a reply with finish `fault`.

    `served` are the names of the models that the server lists.

    Raises `EngineFault` when the server is not there, wants another key, does not serve the model or, for an adapter, the student, or when
    it answers nobody any more.
    """

    def __init__(
        self,
        server: Server,
        adapter: Path | None,
        *,
        slots: int,
        context: int,
        max_new_tokens: int,
        temperature: float,
        stop: Sequence[str],
        template: Mapping[str, Any] = MappingProxyType({}),
        thinks: bool = False,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if CLOCK in template:
            raise EngineFault(
                f"model.template.{CLOCK}: a server's template asks its own clock; give the date by an argument of the template, "
                "if it has one, or use engine.kind vllm"
            )
        self._thinks = thinks
        self._extra: dict[str, object] = {"chat_template_kwargs": dict(template)} if template else {}
        self._slots, self._context, self._max_new = slots, context, max_new_tokens
        self._temperature, self._stop = temperature, tuple(stop)
        self._endpoint = Endpoint(server, slots, pause)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=_run, args=(self._loop,), name="server engine", daemon=True).start()
        # Not at exit: requests that are still open then go with the process.
        weakref.finalize(self, _hang_up, self._loop, self._endpoint).atexit = False
        self._seeds: dict[int, int] = {}
        self._asked: dict[int, Future[Reply]] = {}
        self._opened = 0
        self._failures = 0
        self._adapter = adapter
        cards = asyncio.run_coroutine_threadsafe(self._endpoint.models(), self._loop).result()
        self.served = [card.id for card in cards]
        self._model = self._choose(server.model, cards)

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def name(self) -> str:
        return f"server:{self._model}"

    def open(self, seed: int) -> int:
        if len(self._seeds) == self._slots:
            raise RuntimeError(f"all {self._slots} slots are taken: close a session first")
        self._opened += 1
        self._seeds[self._opened] = seed
        return self._opened

    def submit(self, session: int, messages: Sequence[Message]) -> None:
        body: dict[str, object] = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_tokens": self._max_new,
            "temperature": self._temperature,
            "seed": self._seeds[session] % 2**31,  # some servers keep no more of it
            "stop": None if self._thinks else list(self._stop) or None,  # a server would end a reply in its thought
            **self._extra,
        }
        self._asked[session] = asyncio.run_coroutine_threadsafe(self._answer(session, body), self._loop)

    def poll(self) -> list[Reply]:
        if not self._asked:
            raise RuntimeError("nothing was submitted: poll() would wait for ever")
        done, _ = wait(self._asked.values(), return_when=FIRST_COMPLETED)
        ready = [session for session, future in self._asked.items() if future in done]
        return [self._count(self._asked.pop(session).result()) for session in ready]

    def close(self, session: int) -> None:
        """A reply that is still being written is given up."""
        if session in self._asked:
            self._asked.pop(session).cancel()
        del self._seeds[session]

    def _choose(self, base: str | None, cards: list[Card]) -> str:
        """The name under which the server has the model; a list that lacks it is believed, for some servers answer to any name."""
        url, names = self._endpoint.url, self.served
        wanted = self._adapter.parent.name if self._adapter else base
        if wanted is None and len(names) != 1:
            found = f"it serves {', '.join(names)}" if names else "it gives no list of its models"
            raise EngineFault(f"{url}: which model? {found}; give engine.server.model its name")
        name = wanted or names[0]
        if names and name not in names:
            raise EngineFault(self._lacks(name, names))
        window = next((card.max_model_len for card in cards if card.id == name), None)
        if window is not None and window < self._context:
            raise EngineFault(
                f"{url} serves {name} with a window of {window} tokens, engine.context is {self._context}: "
                "start the server with a longer one (vLLM: --max-model-len), or lower engine.context"
            )
        return name

    def _lacks(self, name: str, names: Sequence[str]) -> str:
        served = ", ".join(names) if names else "unknown, it gives no list"
        text = f"{self._endpoint.url} does not serve {name!r}; its models: {served}. "
        if self._adapter is None:
            return (
                text
                + "Give engine.server.model the right name, or engine.server.url the right address (it ends in /v1)"
            )
        return (
            text + f"Start the server with the student's adapter under that name (vllm serve ... --enable-lora "
            f"--lora-modules {name}={self._adapter}), and run again"
        )

    async def _answer(self, session: int, body: dict[str, object]) -> Reply:
        try:
            return self._read(session, await self._endpoint.complete(body))
        except Overflow:
            return Reply(session, "", "context", 0, 0, 0)
        except Refused as failure:
            return Reply(session, "", "fault", 0, 0, 0, str(failure))
        except Unknown as failure:
            names = [card.id for card in await self._endpoint.models()]
            raise EngineFault(f"{self._lacks(self._model, names)} ({failure})") from None

    def _read(self, session: int, completion: Completion) -> Reply:
        choice, usage = completion.choices[0], completion.usage
        prompt = usage.prompt_tokens
        if prompt + self._max_new > self._context:
            # The server's window is wider than the study's, and only its answer says how long the prompt was.
            return Reply(session, "", "context", prompt, 0, 0)
        written = choice.message.content or ""
        if self._thinks:
            written = written.lstrip(
                "\n"
            )  # which stand between a thought that the server has taken out and what is said
        # Some servers leave the stop string in, and some write on after it.
        text = written[: end_of(written, self._stop)]
        cut = choice.finish_reason == "length" and text == written
        cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
        return Reply(
            session=session,
            text=text,
            finish="length" if cut else "stop",
            prompt_tokens=prompt,
            computed_tokens=prompt - (cached or 0),
            reply_tokens=usage.completion_tokens,
        )

    def _count(self, reply: Reply) -> Reply:
        """Give the server up when it answers nobody: an episode or two may be more than it can bear, not all of them."""
        self._failures = self._failures + 1 if reply.finish == "fault" else 0
        if self._failures > _HOPELESS * self._slots:
            raise EngineFault(
                f"{self._failures} requests in a row failed, so the server is taken for broken: {reply.error}"
            )
        return reply


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _hang_up(loop: asyncio.AbstractEventLoop, endpoint: Endpoint) -> None:
    closing = asyncio.run_coroutine_threadsafe(endpoint.close(), loop)
    closing.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
