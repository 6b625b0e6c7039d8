"""Any OpenAI-compatible server (vLLM, SGLang, llama.cpp, a hosted one): the model runs there, and each turn is a request with the whole
conversation. The server applies its own chat template, and keeps prefixes if it can.

Requests run in an event loop of their own thread, so they are on their way while the caller does something else.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from stages.core import thinking
from stages.core.records import Message
from stages.core.sections import Connection
from stages.engines.answers import Completion, Usage
from stages.engines.base import EngineFault, Reply
from stages.engines.counting import Counter
from stages.engines.endpoint import Denied, Endpoint, Overflow, Refused, Unknown
from stages.engines.formats import Formats
from stages.engines.names import Names
from stages.engines.proof import Sample, told_apart
from stages.models.chat import CLOCK, Chat
from stages.models.thoughts import Marks

_HOPELESS = 2  # times `slots` failures in a row, with no reply between them, and the server is given up
_SLACK = 8  # tokens that a prompt may lose from turn to turn: what a template opens a reply with, and leaves out of what follows

Result = TypeVar("Result")


@dataclass
class _Session:
    """One conversation: its seed, and what its longest prompt had, in tokens and in tokens beyond half its words."""

    seed: int
    prompt: int = 0
    beyond: float = 0.0


class ServerEngine:
    """See `stages.engines.base.Engine`. `base` is the base model's folder, whose tokenizer counts where the server does not; `context` is
    the window in tokens, by the server's own counts; `max_new_tokens` a reply's limit; `template` the arguments of the chat template, `chat` the
    base model's, by which thoughts are found where the server leaves them in. Replies are held to the JSON `schema`, as far as the server can. A
    request that fails for good is a reply with finish `fault`.

    `served` are the names of the models that the server lists.

    Raises `EngineFault` when the server is not there, wants another key, does not serve the model or, for an adapter, the student; when it
    answers as the base in the student's place; when it cuts prompts or takes replies for thoughts; or when it answers nobody any more.
    """

    def __init__(
        self,
        server: Connection,
        adapter: Path | None,
        *,
        base: Path | None = None,
        slots: int,
        context: int,
        max_new_tokens: int,
        temperature: float,
        stop: Sequence[str],
        template: Mapping[str, Any] = MappingProxyType({}),
        chat: Chat | None = None,
        schema: Mapping[str, Any] | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if CLOCK in template:
            raise EngineFault(
                f"model.template.{CLOCK}: a server's template asks its own clock; give the date by an argument of the template, "
                "if it has one, or use engine.kind vllm"
            )
        self._marks = chat.marks if chat else Marks()
        self._opener = self._marks.read(chat.opener) if chat else ""
        self._extra: dict[str, object] = {"chat_template_kwargs": dict(template)} if template else {}
        self._base, self._slots, self._context, self._max_new = base, slots, context, max_new_tokens
        self._temperature, self._stop = temperature, tuple(stop)
        self._endpoint = Endpoint(server, slots, pause)
        self._formats = Formats(self._endpoint.url, schema)
        self._window = server.window
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=_run, args=(self._loop,), name="server engine", daemon=True).start()
        # Not at exit: requests that are still open then go with the process.
        weakref.finalize(self, _hang_up, self._loop, self._endpoint).atexit = False
        self._sessions: dict[int, _Session] = {}
        self._asked: dict[int, Future[Reply]] = {}
        self._opened = 0
        self._failures = 0
        self._names = Names(server, adapter, self._do(self._endpoint.models()).result(), context)
        self.served = self._names.served
        self._proven = adapter is None
        self._stopping = bool(stop)  # whether the server is told where replies end
        self._heard = self._parses = (
            False  # whether a reply said something; whether the server takes thoughts out of replies
        )
        self._counter: Counter | None = None

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def name(self) -> str:
        return f"server:{self._names.model}" + (" (tokens counted here)" if self._counter else "")

    def open(self, seed: int) -> int:
        if len(self._sessions) == self._slots:
            raise RuntimeError(f"all {self._slots} slots are taken: close a session first")
        self._opened += 1
        self._sessions[self._opened] = _Session(seed)
        return self._opened

    def submit(self, session: int, messages: Sequence[Message]) -> None:
        if not self._proven:
            self._do(self._prove(messages)).result()
        self._asked[session] = self._do(self._answer(session, self._sessions[session], list(messages)))

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
        del self._sessions[session]

    def _do(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _answer(self, session: int, state: _Session, messages: Sequence[Message]) -> Reply:
        body = self._body(self._names.model, messages) | {"temperature": self._temperature}
        body["seed"] = state.seed % 2**31  # some servers keep no more of it
        try:
            completion = await self._ask(body)
        except Overflow:
            return Reply(session, "", "context", 0, 0, 0)
        except Refused as failure:
            return Reply(session, "", "fault", 0, 0, 0, str(failure))
        return self._read(session, state, messages, completion)

    def _body(self, model: str, messages: Sequence[Message]) -> dict[str, Any]:
        # What a server has taken out of replies as thoughts it does not want back in them, nor in marks that are not the model's.
        bare = self._parses or self._marks.own
        said = [thinking.aloud(m.content).lstrip() if bare and m.role == "assistant" else m.content for m in messages]
        content = [{"role": message.role, "content": text} for message, text in zip(messages, said, strict=True)]
        return {"model": model, "messages": content, "max_tokens": self._max_new, **self._extra}

    async def _ask(self, body: dict[str, Any]) -> Completion:
        """A completion of the form that is wanted, as far as the server takes that."""
        while True:
            form = self._formats.asked
            try:
                return await self._until_stop({**body, **form})
            except Denied as refusal:
                if not self._formats.gives_way(form, str(refusal)):
                    raise

    async def _until_stop(self, body: dict[str, Any]) -> Completion:
        """A completion that ends at a stop string only where the reply does: a model that thinks writes them in its think block and right after
        it, so that it is asked again without."""
        if self._stopping:
            completion = await self._complete({**body, "stop": list(self._stop)})
            written = completion.usage.completion_tokens if completion.usage else None
            if (
                thinking.aloud(self._marks.read(completion.said)).strip()
                or completion.finish != "stop"
                or written in (0, 1)
            ):
                return completion
            self._stopping = False
        return await self._complete(body)

    async def _complete(self, body: dict[str, Any]) -> Completion:
        try:
            return await self._endpoint.complete(body)
        except Unknown as failure:
            listed = [card.id for card in await self._endpoint.models()]
            raise EngineFault(f"{self._names.lacks(str(body['model']), listed)} ({failure})") from None

    async def _prove(self, messages: Sequence[Message]) -> None:
        """Show that the student answers otherwise than its base, by the first prompt that it is given. Raises `EngineFault` when it does not."""
        base, student = self._names.base, self._names.model
        try:
            samples = [await self._sample(self._body(name, messages)) for name in (base, base, student)]
        except Overflow:
            return  # a later prompt is shorter
        except Refused as failure:
            raise EngineFault(str(failure)) from None
        if not told_apart(*samples):
            raise EngineFault(self._names.same(by_text=not all(sample.places for sample in samples)))
        self._proven = True

    async def _sample(self, body: dict[str, Any]) -> Sample:
        greedy = {**body, "temperature": 0.0, "seed": 0}
        try:
            completion = await self._complete({**greedy, "logprobs": True, "top_logprobs": 5})
        except Denied:
            completion = await self._complete(greedy)
        places = [
            (place.token, {one.token: one.logprob for one in (*place.top_logprobs, place)})
            for place in completion.places
        ]
        return Sample(completion.thought + completion.said, places)

    def _read(self, session: int, state: _Session, messages: Sequence[Message], completion: Completion) -> Reply:
        written = self._written(completion)
        prompt, reply_tokens, cached = self._tokens(messages, written, completion)
        self._uncut(state, messages, prompt)
        if prompt + self._max_new > self._context:
            # The server's window is wider than the study's, and only its answer says how long the prompt was.
            return Reply(session, "", "context", prompt, 0, 0)
        # Some servers leave the stop string in, and some write on after it.
        end = thinking.end(written, self._stop)
        return Reply(
            session=session,
            text=written[:end],
            finish="length" if completion.finish == "length" and end is None else "stop",
            prompt_tokens=prompt,
            computed_tokens=prompt - cached,
            reply_tokens=reply_tokens,
        )

    def _written(self, completion: Completion) -> str:
        """The whole reply: what a server took out of it as a thought stands in a think block again."""
        said, thought = self._marks.read(completion.said), completion.thought
        if not thought:
            self._heard = self._heard or bool(said.strip())
            unclosed = completion.finish == "length" and thinking.THOUGHT[1] not in said
            return f"{self._opener}{said}" if unclosed and not said.startswith(self._opener) else said
        if said.strip():
            self._heard = self._parses = True
        elif completion.finish == "length":
            return f"<think>\n{thought}"
        elif not self._heard:
            raise EngineFault(
                f"{self._endpoint.url}: the answer stands in reasoning_content, and content is empty: the server's reasoning parser takes it for a "
                "thought. Start the server without it (vLLM, SGLang: no --reasoning-parser) or with that of this model, in the mode in which "
                f"the model thinks: {thought!r:.100}"
            )
        return f"<think>\n{thought}\n</think>\n\n{said}"

    def _tokens(self, messages: Sequence[Message], written: str, completion: Completion) -> tuple[int, int, int]:
        """Tokens of the prompt, of the reply, and those of the prompt that the server kept; counted here as far as the server does not say."""
        usage = completion.usage or Usage()
        cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else None
        prompt, reply = usage.prompt_tokens, usage.completion_tokens
        if not prompt or reply is None:
            self._counter = self._counter or Counter(self._base)
            prompt = prompt or self._counter.prompt(messages)
            reply = self._counter.text(written) + 1 if reply is None else reply
        return prompt, reply, cached or 0

    def _uncut(self, state: _Session, messages: Sequence[Message], prompt: int) -> None:
        """Raise `EngineFault` for a server that reads less than it is asked: a word is a token at least, so that a prompt grows by more than half
        the words that its conversation does."""
        words = sum(len(message.content.split()) for message in messages if message.role != "assistant")
        beyond = prompt - words / 2
        if beyond < state.beyond - _SLACK:
            raise EngineFault(
                f"{self._endpoint.url} cuts prompts: it counts {prompt} tokens for a conversation of {words} words without the replies"
                + (f", and {state.prompt} for its beginning" if state.prompt else "")
                + f". Give the server a window of {self._window} {self._context} tokens or more (Ollama: num_ctx), and no truncation"
            )
        if beyond >= state.beyond:
            state.prompt, state.beyond = prompt, beyond

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
