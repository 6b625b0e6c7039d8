"""vLLM, in this process: continuous batching on a GPU, prefixes kept from turn to turn by its prefix cache, students as LoRA adapters.

Prompts are the same token ids that the embedded engine makes and students are trained on, so an episode does not depend on the engine but
for its arithmetic. Source: vLLM's documented `LLM`, and the `add_request` and `step` of its engine, through which a reply is handed out as
soon as it is written while the others go on. Prompts go through its renderer, as vLLM will take no others.
"""

from __future__ import annotations

import json
import subprocess
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core import thinking
from stages.core.records import Message
from stages.engines import proof
from stages.engines.base import EngineFault, Reply
from stages.models.chat import Chat, ChatError
from stages.models.conversation import Conversation
from stages.models.identity import template_of
from stages.models.manifest import model_folder

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of adapters that vLLM makes room for."""
# A shell that waits for the end of the process that holds its input, however that ends, and then ends the processes named to it.
_GUARD = 'read -r _; kill -9 "$@" 2>/dev/null'


@dataclass
class _Session(Conversation):
    """One conversation with its own seed."""

    seed: int = 0


class VllmEngine:
    """See `stages.engines.base.Engine`. `context` is the window in tokens, `max_new_tokens` a reply's limit, `gpu_memory` the share of the
    GPU's memory that vLLM may take, `tensor_parallel` the number of GPUs that share the model. Replies are held to the JSON `schema`.

    Raises `EngineFault` when vLLM is not installed, or when model or adapter cannot be loaded.
    """

    def __init__(
        self,
        base: Path,
        adapter: Path | None,
        *,
        dtype: str,
        slots: int,
        context: int,
        max_new_tokens: int,
        temperature: float,
        stop: Sequence[str],
        gpu_memory: float,
        tensor_parallel: int,
        schema: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            import vllm
            from vllm.lora.request import LoRARequest
        except ImportError as error:
            raise EngineFault(f"engine.kind vllm needs a GPU and the extra: pip install '.[gpu]' ({error})") from error
        self._vllm: Any = vllm
        self._format = "bfloat16" if dtype == "auto" else dtype
        self._context, self._max_new, self._temperature = context, max_new_tokens, temperature
        self._stop, self._slots = list(stop), slots
        self._form: dict[str, Any] = {}
        if schema is not None:
            from vllm.sampling_params import StructuredOutputsParams

            self._form = {"structured_outputs": StructuredOutputsParams(json=dict(schema))}
        self._adapter = LoRARequest("student", 1, str(adapter)) if adapter else None
        room = {"max_lora_rank": _room_for(adapter)} if adapter else {}
        try:
            self._llm: Any = vllm.LLM(
                model=str(model_folder(base)),
                dtype=self._format,
                max_model_len=context,
                max_num_seqs=slots,
                gpu_memory_utilization=gpu_memory,
                tensor_parallel_size=tensor_parallel,
                enable_prefix_caching=True,
                enable_lora=adapter is not None,
                **room,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise EngineFault(
                f"vLLM cannot load {base} with adapter {adapter}: {error}. When memory is short, lower engine.context or "
                "engine.slots, or raise engine.vllm.gpu_memory or tensor_parallel"
            ) from error
        self._core: Any = self._llm.llm_engine
        weakref.finalize(self, _end, self._core.engine_core, _guard())
        try:
            self._chat = Chat(self._llm.get_tokenizer(), template_of(base / "identity.json"))
        except ChatError as error:
            raise EngineFault(f"{base}: {error}") from error
        self._sessions: dict[int, _Session] = {}
        self._opened = 0
        self._asked = 0
        self._waiting: dict[str, int] = {}  # request to session
        self._full: list[int] = []  # sessions whose prompt leaves no room for a reply
        if adapter:
            proof.prove(str(adapter), self._scores(None), self._scores(self._adapter))

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def name(self) -> str:
        return f"vllm-{self._format}"

    def open(self, seed: int) -> int:
        if len(self._sessions) == self._slots:
            raise RuntimeError(f"all {self._slots} slots are taken: close a session first")
        self._opened += 1
        self._sessions[self._opened] = _Session(seed=seed)
        return self._opened

    def submit(self, session: int, messages: Sequence[Message]) -> None:
        state = self._sessions[session]
        state.ask(self._chat, messages)
        if state.prompt_end + self._max_new > self._context:
            self._full.append(session)
            return
        sampling = self._vllm.SamplingParams(
            temperature=self._temperature,
            max_tokens=self._max_new,
            stop=[] if self._chat.thinks else self._stop,  # vLLM would end a reply in its thought
            stop_token_ids=[self._chat.end],
            skip_special_tokens=False,  # of which some families' marks of thoughts are
            seed=state.seed,
            **self._form,
        )
        self._asked += 1
        request = str(self._asked)
        self._waiting[request] = session
        with _blamed():
            [prompt] = self._llm.renderer.render_cmpl([{"prompt_token_ids": list(state.ids)}])
            self._core.add_request(request, prompt, sampling, lora_request=self._adapter)

    def poll(self) -> list[Reply]:
        if self._full:
            full, self._full = self._full, []
            return [Reply(n, "", "context", self._sessions[n].prompt_end, 0, 0) for n in full]
        if not self._waiting:
            raise RuntimeError("nothing was submitted: poll() would wait for ever")
        done: list[Any] = []
        with _blamed():
            while not done:
                done = [output for output in self._core.step() if output.finished]
        return [self._read(output) for output in done]

    def close(self, session: int) -> None:
        """A reply that is still being written is given up."""
        given_up = [request for request, owner in self._waiting.items() if owner == session]
        for request in given_up:
            del self._waiting[request]
            self._core.abort_request([request])
        del self._sessions[session]

    def _read(self, output: Any) -> Reply:
        number = self._waiting.pop(output.request_id)
        state, written = self._sessions[number], output.outputs[0]
        if written.finish_reason not in ("stop", "length"):
            reason = f"vLLM gave a reply up: {written.finish_reason}"
            return Reply(number, "", "fault", state.prompt_end, 0, 0, reason)
        text = self._chat.read(written.text)
        end = thinking.end(text, self._stop)
        text = text[:end]
        state.answer(self._chat, text)
        return Reply(
            session=number,
            text=text,
            finish=written.finish_reason if end is None else "stop",
            prompt_tokens=state.prompt_end,
            computed_tokens=state.prompt_end - (output.num_cached_tokens or 0),
            reply_tokens=len(written.token_ids),
        )

    def _scores(self, adapter: Any) -> list[float]:
        """Log-probabilities of the probe's tokens, each after those before it, with or without the adapter."""
        state = Conversation()
        state.ask(self._chat, proof.PROMPT)
        reading = self._vllm.SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
        with _blamed():
            [output] = self._llm.generate(
                [{"prompt_token_ids": state.ids}], reading, lora_request=adapter, use_tqdm=False
            )
        return [found[token].logprob for token, found in zip(state.ids[1:], output.prompt_logprobs[1:], strict=True)]


@contextmanager
def _blamed() -> Iterator[None]:
    """Whatever vLLM raises at work is the engine's fault; its own errors have no other class in common than `Exception`."""
    try:
        yield
    except Exception as error:
        raise EngineFault(f"vLLM failed while it was writing replies: {type(error).__name__}: {error}") from error


def _guard() -> subprocess.Popen[bytes]:
    """vLLM computes in processes of its own, which would outlive this one when it is killed, and keep the GPU's memory."""
    import psutil  # which vLLM requires

    workers = [str(process.pid) for process in psutil.Process().children(recursive=True)]
    return subprocess.Popen(["sh", "-c", _GUARD, "sh", *workers], stdin=subprocess.PIPE, start_new_session=True)


def _end(core: Any, guard: subprocess.Popen[bytes]) -> None:
    core.shutdown()
    guard.kill()
    guard.wait()


def _room_for(adapter: Path) -> int:
    """The least rank that vLLM makes room for and that holds the adapter's. Raises `EngineFault` for a folder that is no adapter's."""
    path = adapter / "adapter_config.json"
    try:
        rank = int(json.loads(path.read_text(encoding="utf-8"))["r"])
        return next(room for room in RANKS if room >= rank)
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise EngineFault(
            f"{path}: no adapter of rank {RANKS[-1]} or less ({error!r}); run `dvc repro students`"
        ) from error
