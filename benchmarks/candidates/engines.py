"""Each candidate as an engine (`stages.engines.base.Engine`), with the settings that its own documentation recommends for such work."""

from __future__ import annotations

import queue
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from candidates.work import CONTEXT, REPLY
from stages.core.records import Message
from stages.engines.base import Reply
from stages.models.chat import open_chat
from stages.models.conversation import Conversation

GGUF_KINDS = ("F16", "Q8_0")
PAGE, PASS = 16, 512  # of transformers' continuous batching: positions a block, tokens a pass


@dataclass(frozen=True)
class Files:
    """The model's forms, and what every candidate is given."""

    folder: Path
    gguf: dict[str, Path]
    slots: int
    threads: int
    dtype: torch.dtype


class ByTokens(ABC):
    """An engine that is given the whole prompt as token ids at every turn; what it keeps of earlier ones is its own affair."""

    name = ""

    def __init__(self, files: Files) -> None:
        self.slots = files.slots
        self.chat = open_chat(files.folder)
        self.tokenizer = self.chat.tokenizer
        self._talks: dict[int, Conversation] = {}

    def open(self, seed: int) -> int:
        self._talks[seed] = Conversation()
        return seed

    def close(self, session: int) -> None:
        del self._talks[session]

    def submit(self, session: int, messages: Sequence[Message]) -> None:
        talk = self._talks[session]
        talk.ask(self.chat, messages)
        self.ask(session, talk.ids)

    def poll(self) -> list[Reply]:
        replies = []
        for session, text in self.answers():
            talk = self._talks[session]
            prompt = talk.prompt_end
            talk.answer(self.chat, text)
            replies.append(Reply(session, text, "length", prompt, prompt, REPLY))
        return replies

    @abstractmethod
    def ask(self, session: int, ids: list[int]) -> None: ...

    @abstractmethod
    def answers(self) -> list[tuple[int, str]]:
        """Work until there is an answer, at least one."""


def ours(files: Files) -> Any:
    from stages.engines.cpu import CpuEngine

    return CpuEngine(
        files.folder,
        None,
        dtype=str(files.dtype).removeprefix("torch."),
        slots=files.slots,
        context=CONTEXT,
        max_new_tokens=REPLY,
        temperature=0.0,
        stop=(),
    )


class Lockstep(ByTokens):
    """transformers' `generate` on all conversations at once: a turn begins when the last one's reply is there. The cache is kept between turns,
    padded where prompts gained fewer tokens than the longest."""

    def __init__(self, files: Files, static: bool = False, compiled: bool = False) -> None:
        super().__init__(files)
        from transformers import CompileConfig, DynamicCache, StaticCache

        self._model: Any = AutoModelForCausalLM.from_pretrained(files.folder, dtype=files.dtype).eval()
        self._static = static
        config = self._model.config
        self._new_cache = lambda: StaticCache(config, CONTEXT) if static else DynamicCache(config=config)
        self._settings = {"max_new_tokens": REPLY, "do_sample": False, "disable_compile": not compiled}
        if compiled:
            self._settings["compile_config"] = CompileConfig(fullgraph=True, mode="default")
            self._settings["compile_config"]._compile_all_devices = True
        self._rows: list[int] = []
        self._known: dict[int, int] = {}
        self._asked: dict[int, list[int]] = {}
        self._ids = torch.zeros(0, 0, dtype=torch.long)
        self._mask = torch.zeros(0, 0, dtype=torch.long)

    def ask(self, session: int, ids: list[int]) -> None:
        self._asked[session] = ids[self._known.get(session, 0) :]

    @torch.inference_mode()
    def answers(self) -> list[tuple[int, str]]:
        if not self._rows:
            self._cache: Any = self._new_cache()
            self._rows = list(self._asked)
            self._ids = self._mask = torch.zeros(len(self._rows), 0, dtype=torch.long)
        elif not self._static:
            self._drop_closed()
        width = max(map(len, self._asked.values()))
        new, mask = torch.zeros(2, len(self._rows), width, dtype=torch.long)
        for row, session in enumerate(self._rows):
            ids = self._asked.get(session, [0])
            new[row, width - len(ids) :] = torch.tensor(ids)
            mask[row, width - len(ids) :] = 1
        self._ids = torch.cat([self._ids, new], 1)
        self._mask = torch.cat([self._mask, mask], 1)
        start = self._ids.shape[1]
        self._ids = self._model.generate(
            self._ids, attention_mask=self._mask, past_key_values=self._cache, **self._settings
        )
        self._mask = torch.nn.functional.pad(self._mask, (0, self._ids.shape[1] - start), value=1)
        answered = [
            (session, self.tokenizer.decode(self._ids[row, start:]))
            for row, session in enumerate(self._rows)
            if session in self._asked
        ]
        self._asked.clear()
        return answered

    def close(self, session: int) -> None:
        super().close(session)
        self._known.pop(session)
        if not self._talks:
            self._rows = []

    def _drop_closed(self) -> None:
        open_rows = torch.tensor([row for row, session in enumerate(self._rows) if session in self._asked])
        self._rows = [self._rows[row] for row in open_rows]
        self._ids, self._mask = self._ids[open_rows], self._mask[open_rows]
        self._cache.batch_select_indices(open_rows)

    def poll(self) -> list[Reply]:
        replies = super().poll()
        for reply in replies:
            self._known[reply.session] = len(self._talks[reply.session].ids) - 1  # the end token is yet to be encoded
        return replies


class Paged(ByTokens):
    """transformers' continuous batching with its paged cache and shared prefixes."""

    def __init__(self, files: Files) -> None:
        super().__init__(files)
        from transformers import ContinuousBatchingConfig, GenerationConfig

        model: Any = AutoModelForCausalLM.from_pretrained(
            files.folder, dtype=files.dtype, attn_implementation="sdpa"
        ).eval()
        self._manager = model.init_continuous_batching(
            generation_config=GenerationConfig(max_new_tokens=REPLY, do_sample=False, eos_token_id=-1),
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=PAGE, num_blocks=files.slots * CONTEXT // PAGE, max_batch_tokens=PASS
            ),
        )
        self._manager.start()

    def ask(self, session: int, ids: list[int]) -> None:
        self._manager.add_request(list(ids), request_id=f"{session}-{len(ids)}")

    def answers(self) -> list[tuple[int, str]]:
        result = None
        while result is None and self._manager.is_running():
            result = self._manager.get_result(timeout=1)
        if result is None or result.error:
            raise RuntimeError(f"continuous batching failed: {result.error if result else 'its thread has ended'}")
        return [(int(result.request_id.split("-")[0]), self.tokenizer.decode(result.generated_tokens))]

    def stop(self) -> None:
        """End the manager's thread."""
        self._manager.stop()


class LlamaCpp(ByTokens):
    """llama.cpp's server loop in this process: a slot a conversation, which keeps its prompt."""

    def __init__(self, files: Files, kind: str) -> None:
        super().__init__(files)
        import xllamacpp

        from candidates.llama_server import parameters

        self._server = xllamacpp.Server(parameters(str(files.gguf[kind]), files.slots, CONTEXT, files.threads))
        self._threads = ThreadPoolExecutor(files.slots)
        self._answers: queue.Queue[tuple[int, Any]] = queue.Queue()

    def ask(self, session: int, ids: list[int]) -> None:
        request = {"prompt": list(ids), "max_tokens": REPLY, "temperature": 0, "id_slot": session, "cache_prompt": True}
        future = self._threads.submit(self._server.handle_completions, request)
        future.add_done_callback(lambda done: self._answers.put((session, done)))

    def answers(self) -> list[tuple[int, str]]:
        session, done = self._answers.get()
        return [(session, done.result()["choices"][0]["text"])]


class OpenVino(ByTokens):
    """OpenVINO GenAI's continuous batching pipeline with shared prefixes."""

    def __init__(self, files: Files, kind: str) -> None:
        super().__init__(files)
        import openvino_genai as genai

        scheduler = genai.SchedulerConfig()
        scheduler.enable_prefix_caching = True
        scheduler.max_num_seqs = files.slots
        scheduler.cache_size = 3  # GB
        precision = "bf16" if files.dtype == torch.bfloat16 else "f32"
        source = str(files.gguf[kind])
        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": files.threads}
        self._pipeline = genai.ContinuousBatchingPipeline(source, genai.Tokenizer(source), scheduler, "CPU", **options)
        self._settings = genai.GenerationConfig(max_new_tokens=REPLY, do_sample=False)
        self._running: dict[int, Any] = {}
        self._finished = genai.GenerationStatus.FINISHED
        self._asked = 0

    def ask(self, session: int, ids: list[int]) -> None:
        import openvino

        self._asked += 1
        prompt = openvino.Tensor(torch.tensor([ids]).numpy())
        self._running[session] = self._pipeline.add_request(self._asked, prompt, self._settings)

    def answers(self) -> list[tuple[int, str]]:
        done: list[int] = []
        while not done:
            self._pipeline.step()
            done = [s for s, handle in self._running.items() if handle.get_status() == self._finished]
        return [(s, self.tokenizer.decode(self._running.pop(s).read_all()[0].generated_ids)) for s in done]
