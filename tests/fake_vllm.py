"""vLLM's documented interface, as far as the engine uses it, over transformers' own greedy `generate`.

Requests are answered one a step, the newest first, so that they come back in another order than they were made. What a request shares with
an earlier one's tokens counts as cached, in blocks of 16 as in vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

BLOCK = 16


@dataclass
class SamplingParams:
    temperature: float
    max_tokens: int
    stop: list[str]
    stop_token_ids: list[int]
    seed: int | None


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass
class CompletionOutput:
    text: str
    token_ids: list[int]
    finish_reason: str


@dataclass
class RequestOutput:
    request_id: str
    outputs: list[CompletionOutput]
    num_cached_tokens: int | None
    finished: bool


class LLMEngine:
    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self.requests: dict[str, tuple[list[int], SamplingParams]] = {}
        self.seen: list[list[int]] = []
        self.aborted: list[str] = []
        self.loras: list[LoRARequest | None] = []

    def add_request(
        self,
        request_id: str,
        prompt: Mapping[str, Any],
        params: SamplingParams,
        lora_request: LoRARequest | None = None,
    ) -> None:
        self.requests[request_id] = (prompt["prompt_token_ids"], params)
        self.loras.append(lora_request)

    def abort_request(self, request_ids: Sequence[str]) -> None:
        for request in request_ids:
            self.aborted.append(request)
            del self.requests[request]

    def step(self) -> list[RequestOutput]:
        request, (ids, params) = self.requests.popitem()
        cached = max((common(ids, old) for old in self.seen), default=0) // BLOCK * BLOCK
        text, written, reason = self.llm.write(ids, params)
        self.seen.append([*ids, *written])
        unfinished = [RequestOutput(other, [], None, finished=False) for other in self.requests]
        return [*unfinished, RequestOutput(request, [CompletionOutput(text, written, reason)], cached, finished=True)]


class LLM:
    last: LLM

    def __init__(self, model: str, **settings: Any) -> None:
        self.settings = settings
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model)
        self.model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self.llm_engine = LLMEngine(self)
        LLM.last = self

    def get_tokenizer(self) -> Any:
        return self.tokenizer

    def write(self, ids: list[int], params: SamplingParams) -> tuple[str, list[int], str]:
        """Text, tokens and reason: up to the end token, a stop string (left out of the text), or the limit."""
        given = torch.tensor([ids])
        out = self.model.generate(
            input_ids=given,
            attention_mask=torch.ones_like(given),
            do_sample=False,
            max_new_tokens=params.max_tokens,
        )[0, len(ids) :].tolist()
        for end in range(1, len(out) + 1):
            if out[end - 1] in (self.tokenizer.eos_token_id, *params.stop_token_ids):
                return self.tokenizer.decode(out[: end - 1]), out[:end], "stop"
            text = self.tokenizer.decode(out[:end])
            if any(stop in text for stop in params.stop):
                return text[: min(text.index(s) for s in params.stop if s in text)], out[:end], "stop"
        return self.tokenizer.decode(out), out, "length"


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def modules() -> dict[str, ModuleType]:
    """What `import vllm` finds when these stand in sys.modules."""
    found = {name: ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request")}
    found["vllm"].__dict__.update(LLM=LLM, SamplingParams=SamplingParams)
    found["vllm.lora.request"].__dict__.update(LoRARequest=LoRARequest)
    return found
