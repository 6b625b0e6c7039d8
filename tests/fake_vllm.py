"""vLLM's interface, as far as the engine uses it, over transformers' own greedy `generate`: for faults, and where no vLLM is at hand.
tests/test_vllm_real.py has the real one.

Requests are answered one a step, the newest first, so that they come back in another order than they were made. What a request shares with
an earlier one's tokens counts as cached, in blocks of 16 as in vLLM. An adapter changes log-probabilities alone, unless the model is `deaf`
to adapters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

BLOCK = 16


class EngineDeadError(Exception):
    """As vLLM's own, no RuntimeError."""


@dataclass
class SamplingParams:
    temperature: float
    max_tokens: int
    stop: list[str] = field(default_factory=list)
    stop_token_ids: list[int] = field(default_factory=list)
    skip_special_tokens: bool = True
    seed: int | None = None
    prompt_logprobs: int | None = None


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
class Logprob:
    logprob: float


@dataclass
class RequestOutput:
    request_id: str
    outputs: list[CompletionOutput]
    num_cached_tokens: int | None
    finished: bool
    prompt_logprobs: list[dict[int, Logprob] | None] = field(default_factory=list)


class EngineCore:
    def __init__(self) -> None:
        self.ended = False

    def shutdown(self) -> None:
        self.ended = True


class Renderer:
    """What `add_request` takes is what this one hands out."""

    def render_cmpl(self, prompts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [{"type": "token", **prompt} for prompt in prompts]


class LLMEngine:
    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self.engine_core = EngineCore()
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
        assert prompt["type"] == "token", "raw prompts are deprecated"
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
    deaf = False

    def __init__(self, model: str, **settings: Any) -> None:
        self.settings = settings
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model)
        self.model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        self.llm_engine = LLMEngine(self)
        self.renderer = Renderer()
        LLM.last = self

    def get_tokenizer(self) -> Any:
        return self.tokenizer

    def generate(
        self,
        prompts: Sequence[Mapping[str, Any]],
        params: SamplingParams,
        lora_request: LoRARequest | None,
        use_tqdm: bool,
    ) -> list[RequestOutput]:
        """Of one prompt, the log-probabilities of its own tokens alone."""
        [ids] = [prompt["prompt_token_ids"] for prompt in prompts]
        shift = 0.0 if lora_request is None or self.deaf else 0.5
        scores = self.model(torch.tensor([ids])).logits[0].detach().log_softmax(-1)
        said = [{token: Logprob(float(scores[place, token]) + shift)} for place, token in enumerate(ids[1:])]
        return [RequestOutput("probe", [], None, True, [None, *said])]

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
                return self.text(out[: end - 1], params), out[:end], "stop"
            text = self.text(out[:end], params)
            if any(stop in text for stop in params.stop):
                return text[: min(text.index(s) for s in params.stop if s in text)], out[:end], "stop"
        return self.text(out, params), out, "length"

    def text(self, ids: list[int], params: SamplingParams) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=params.skip_special_tokens))


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two sequences begin with in common."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def modules() -> dict[str, ModuleType]:
    """What `import vllm` finds when these stand in sys.modules."""
    found = {name: ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.request")}
    found["vllm"].__dict__.update(LLM=LLM, SamplingParams=SamplingParams)
    found["vllm.lora.request"].__dict__.update(LoRARequest=LoRARequest)
    return found
