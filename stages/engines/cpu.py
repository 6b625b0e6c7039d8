"""The embedded engine: continuous batching on a CPU, with every conversation's keys and values kept from turn to turn.

Each pass takes one token of every reply that is being written and a stretch of every prompt that is waiting, in one ragged
row. A finished reply's place is taken at once; nobody waits for the longest. Greedy replies do not depend on which
conversations share a pass, up to the rounding of the number format (a matrix product's order of summation may change
with the number of rows, so two nearly equal logits may swap).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stages.engines.base import EngineFault, Reply
from stages.engines.conversation import Conversation
from stages.engines.ragged import BLOCK, NAME, BlockPool, Layout
from stages.records import Message

_PROMPT_TOKENS = 512  # of waiting prompts a pass at most; bounds memory, and replies go on meanwhile


@dataclass
class _Session(Conversation):
    """One conversation, of whose `ids` the first `cached` are encoded, in the pool's `blocks`."""

    generator: torch.Generator = field(default_factory=torch.Generator)
    blocks: list[int] = field(default_factory=list)
    cached: int = 0
    computed: int = 0
    waiting: bool = False


def number_format(dtype: str) -> torch.dtype:
    """The format that params.yaml names; `auto` is bf16 where the processor multiplies it natively, else fp32 (bf16 would be emulated,
    and slower)."""
    if dtype != "auto":
        return {"bfloat16": torch.bfloat16, "float32": torch.float32}[dtype]
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16")
    return torch.bfloat16 if native else torch.float32


def load_model(base: Path, adapter: Path | None, dtype: torch.dtype) -> Any:
    """A causal language model on the CPU, an adapter merged into its weights in fp32.

    Raises `EngineFault` when a folder is missing or holds no such thing.
    """
    from peft import PeftModel
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation=NAME)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EngineFault(f"cannot load the model {base} with adapter {adapter}: {error}; run `dvc repro`") from error
    weights: Any = model
    return weights.to(dtype).eval()


class CpuEngine:
    """See `stages.engines.base.Engine`. `context` is the window in tokens, `max_new_tokens` a reply's limit."""

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
    ) -> None:
        from transformers import AutoTokenizer

        numbers = number_format(dtype)
        self._model = load_model(base, adapter, numbers)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(base)
        except (OSError, ValueError) as error:
            raise EngineFault(f"cannot load the tokenizer of {base}: {error}; run `dvc repro`") from error
        self._context = min(context, self._model.config.max_position_embeddings)
        self._max_new = max_new_tokens
        self._temperature = temperature
        self._stop = tuple(stop)
        self._slots = slots
        self._eos = int(self._tokenizer.eos_token_id)
        config = self._model.config
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        blocks = slots * -(-self._context // BLOCK)
        self._pool = BlockPool(config.num_hidden_layers, blocks, config.num_key_value_heads, dim, numbers)
        self._sessions: dict[int, _Session] = {}
        self._opened = 0
        self._format = str(numbers).removeprefix("torch.")

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def name(self) -> str:
        return f"cpu-{self._format}"

    def open(self, seed: int) -> int:
        if len(self._sessions) == self._slots:
            raise RuntimeError(f"all {self._slots} slots are taken: close a session first")
        self._opened += 1
        self._sessions[self._opened] = _Session(generator=torch.Generator().manual_seed(seed))
        return self._opened

    def close(self, session: int) -> None:
        self._pool.give(self._sessions.pop(session).blocks)

    def submit(self, session: int, messages: Sequence[Message]) -> None:
        state = self._sessions[session]
        state.ask(self._tokenizer, messages)
        state.computed = state.prompt_end - state.cached
        state.waiting = True

    @torch.inference_mode()
    def poll(self) -> list[Reply]:
        done: list[Reply] = []
        for number, state in self._sessions.items():
            if state.waiting and state.prompt_end + self._max_new > self._context:
                state.waiting = False
                done.append(Reply(number, "", "context", state.prompt_end, 0, 0))
        while not done:
            if not any(s.waiting for s in self._sessions.values()):
                raise RuntimeError("nothing was submitted: poll() would wait for ever")
            done = self._pass()
        return done

    def _pass(self) -> list[Reply]:
        """One forward pass; the replies it finished."""
        waiting = {n: s for n, s in self._sessions.items() if s.waiting}
        writing = [n for n, s in waiting.items() if len(s.ids) - s.cached == 1]
        segments: list[tuple[int, int]] = []
        room = _PROMPT_TOKENS
        for number, state in waiting.items():
            missing = len(state.ids) - state.cached
            if missing > 1 and room > 0:
                segments.append((number, min(missing, room)))
                room -= segments[-1][1]
        hidden = self._forward([waiting[n] for n in writing], [(waiting[n], k) for n, k in segments])
        ends = list(range(len(writing)))
        numbers = list(writing)
        position = len(writing)
        for number, taken in segments:
            position += taken
            if waiting[number].cached == len(waiting[number].ids):
                ends.append(position - 1)
                numbers.append(number)
        if not numbers:
            return []
        logits = self._model.get_output_embeddings()(hidden[ends]).float()
        return [r for n, t in zip(numbers, self._choose(logits, numbers), strict=True) if (r := self._grow(n, t))]

    def _forward(self, writing: list[_Session], segments: list[tuple[_Session, int]]) -> torch.Tensor:
        """Encode one token of each `writing` session and `k` of each segment; final hidden states [tokens, width]."""
        ids: list[int] = []
        positions: list[int] = []
        blocks: list[int] = []
        stretches = []
        for state, k in [(s, 1) for s in writing] + segments:
            end = state.cached + k
            while len(state.blocks) * BLOCK < end:
                state.blocks.append(self._pool.take())
            ids += state.ids[state.cached : end]
            positions += range(state.cached, end)
            blocks += [state.blocks[p // BLOCK] for p in range(state.cached, end)]
            stretches.append((state.blocks[: -(-end // BLOCK)], state.cached, k))
            state.cached = end
        place = torch.tensor(positions)
        owner, length = self._looks(writing)
        layout = Layout(
            self._pool, torch.tensor(blocks), place % BLOCK, len(writing), owner, length, stretches[len(writing) :]
        )
        body = self._model.get_decoder()
        out = body(input_ids=torch.tensor([ids]), position_ids=place[None], use_cache=False, layout=layout)
        return out.last_hidden_state[0]  # type: ignore[no-any-return]

    def _looks(self, writing: list[_Session]) -> tuple[torch.Tensor, torch.Tensor]:
        """Who looks into each block in use, and how many positions there are from its first to that conversation's end."""
        owner = torch.full((self._pool.used,), len(writing))
        length = torch.zeros(self._pool.used, dtype=torch.long)
        for row, state in enumerate(writing):
            owner[state.blocks] = row
            length[state.blocks] = torch.arange(len(state.blocks)).mul_(-BLOCK).add_(state.cached)
        return owner, length

    def _choose(self, logits: torch.Tensor, numbers: list[int]) -> list[int]:
        """The next token of each session: the likeliest, or a draw of the session's own generator."""
        if self._temperature == 0:
            return logits.argmax(-1).tolist()
        shares = torch.softmax(logits / self._temperature, -1)
        return [
            int(torch.multinomial(share, 1, generator=self._sessions[n].generator))
            for share, n in zip(shares, numbers, strict=True)
        ]

    def _grow(self, number: int, token: int) -> Reply | None:
        """Add a token to a reply; the reply if that ends it."""
        state = self._sessions[number]
        written = state.ids[state.prompt_end :]
        if token == self._eos:
            return self._finish(number, self._tokenizer.decode(written), len(written) + 1, "stop")
        state.ids.append(token)
        written.append(token)
        tail = self._tokenizer.decode(written[-16:])
        if any(stop in tail for stop in self._stop):
            text = self._tokenizer.decode(written)
            text = text[: min(text.index(stop) for stop in self._stop if stop in text)]
            return self._finish(number, text, len(written), "stop")
        if len(written) == self._max_new:
            return self._finish(number, self._tokenizer.decode(written), len(written), "length")
        return None

    def _finish(self, number: int, text: str, reply_tokens: int, finish: str) -> Reply:
        state = self._sessions[number]
        state.cached = min(state.cached, state.answer(self._tokenizer, text))
        state.waiting = False
        return Reply(number, text, finish, state.prompt_end, state.computed, reply_tokens)
