"""The embedded engine: continuous batching on a CPU, with every conversation's keys and values kept from turn to turn.

Each pass takes one token of every reply that is being written and a stretch of every prompt that is waiting, in one ragged
row. A finished reply's place is taken at once; nobody waits for the longest. What conversations open with alike is encoded once. Under greedy
decoding a pass also checks guesses at the tokens after the next one (`drafting`). Greedy replies do not depend on which conversations share a pass, up to the rounding of the number format (a matrix product's order of summation may change
with the number of rows, so two nearly equal logits may swap).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from stages.core import thinking
from stages.core.records import Message
from stages.engines.base import EngineFault, Reply
from stages.engines.blocks import BlockPool
from stages.engines.decoder import Decoder, Layout
from stages.engines.drafting import Drafter
from stages.engines.kernel import BLOCK
from stages.models.chat import ChatError, open_chat
from stages.models.conversation import Conversation
from stages.models.manifest import model_folder
from stages.models.numbers import processor_multiplies_bf16

_PASS_TOKENS = 512  # a pass at most; bounds memory, and replies go on while long prompts are encoded


@dataclass
class _Session(Conversation):
    """One conversation, of whose `ids` the first `cached` are encoded, in the pool's `blocks`. `computed` counts the tokens of the prompt
    that were encoded for this reply; what another conversation had encoded counts too, so that the figure does not depend on who plays beside
    it. `opening` is the length of the conversation's first prompt."""

    generator: torch.Generator = field(default_factory=torch.Generator)
    blocks: list[int] = field(default_factory=list)
    cached: int = 0
    computed: int = 0
    opening: int = 0
    waiting: bool = False

    @property
    def missing(self) -> int:
        return len(self.ids) - self.cached

    def next_block(self) -> tuple[int, ...]:
        """The ids up to the end of the block that comes next, if it is a whole one of the opening, begun at its beginning; else none."""
        end = self.cached + BLOCK
        # One token of the prompt is left to encode: the reply begins with what the model says after it.
        return tuple(self.ids[:end]) if self.cached % BLOCK == 0 and end < self.opening else ()


def number_format(dtype: str) -> torch.dtype:
    """The format that params.yaml names; `auto` is bf16 where the processor multiplies it natively, else fp32 (bf16 would be emulated,
    and slower)."""
    if dtype == "auto":
        return torch.bfloat16 if processor_multiplies_bf16() else torch.float32
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[dtype]


def load_model(base: Path, adapter: Path | None, dtype: torch.dtype) -> Decoder:
    """A causal language model on the CPU, an adapter merged into its weights in fp32.

    Raises `EngineFault` when a folder is missing or holds no such thing, or a model that the engine does not run.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        if adapter is not None:
            from peft import PeftModel  # takes seconds to import

            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EngineFault(f"cannot load the model {base} with adapter {adapter}: {error}; run `dvc repro`") from error
    return Decoder(model, dtype)


def _is_memory(error: Exception) -> bool:
    """Whether an error says that memory is short; torch has no type of its own for it on a CPU."""
    return isinstance(error, MemoryError) or "not enough memory" in str(error) or "can't allocate memory" in str(error)


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
        numbers = number_format(dtype)
        self._model = load_model(model_folder(base), adapter, numbers)
        try:
            self._chat = open_chat(base)
        except ChatError as error:
            raise EngineFault(f"{base}: {error}") from error
        self._tokenizer = self._chat.tokenizer
        self._context = min(context, self._model.config.max_position_embeddings)
        self._max_new = max_new_tokens
        self._temperature = temperature
        self._stop = tuple(stop)
        self._slots = slots
        self._ends = {self._chat.end, int(self._tokenizer.eos_token_id), *self._model.ends}
        self._width = _PASS_TOKENS
        self._drafter = Drafter()
        self._pool = self._make_pool(numbers)
        self._sessions: dict[int, _Session] = {}
        self._opened = 0
        self._format = str(numbers).removeprefix("torch.")

    def _make_pool(self, numbers: torch.dtype) -> BlockPool:
        """Room for all slots at full length; where there is no memory for it, for half as many."""
        config = self._model.config
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        while True:
            blocks = self._slots * -(-self._context // BLOCK)
            try:
                return BlockPool(config.num_hidden_layers, blocks, config.num_key_value_heads, dim, numbers)
            except (RuntimeError, MemoryError) as error:
                if not _is_memory(error) or self._slots == 1:
                    raise EngineFault(
                        f"no memory for {self._slots} episodes of {self._context} tokens: {error}"
                    ) from error
                self._slots //= 2
                tqdm.write(f"engine: memory is short, {self._slots} episodes at once", file=sys.stderr)

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
        self._keep(state, state.ask(self._chat, messages))
        state.opening = state.opening or state.prompt_end
        state.computed = 0
        state.waiting = True

    def _keep(self, state: _Session, same: int) -> None:
        """Only the first `same` ids are still what is encoded. What others may use of a changed opening is theirs: it is not written over."""
        state.cached = min(state.cached, same)
        if state.cached < state.opening // BLOCK * BLOCK:
            kept = state.cached // BLOCK
            self._pool.give(state.blocks[kept:])
            del state.blocks[kept:]
            state.cached = kept * BLOCK

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
        """One forward pass; the replies it finished. Where memory is short, half as many tokens, from then on."""
        plan = self._plan()
        tokens = sum(len(ids) for _, ids in plan)
        try:
            hidden = self._forward(plan)
            return self._take_in(plan, hidden)
        except (RuntimeError, MemoryError) as error:
            if not _is_memory(error) or tokens == 1:
                raise EngineFault(f"the model failed on {tokens} tokens: {error}") from error
            if self._width == _PASS_TOKENS:
                tqdm.write("engine: memory is short, smaller passes from here on", file=sys.stderr)
            self._width = min(self._width, tokens) // 2
            return []

    def _plan(self) -> list[tuple[int, list[int]]]:
        """Whose tokens the next pass takes, and which: replies first (the token written last, and a guess at those that follow), then
        prompts as far as there is room.

        A long prompt is cut at the ends of blocks. One that opens as another of this pass waits until it can use that one's blocks.
        """
        waiting = [(n, s) for n, s in self._sessions.items() if s.waiting]
        writing = [(n, s) for n, s in waiting if s.missing == 1][: self._width]
        room = self._width - len(writing)
        plan = []
        for number, state in writing:
            guess = self._guess(state, room)
            plan.append((number, [state.ids[-1], *guess]))
            room -= len(guess)
        begun = set()
        for number, state in waiting:
            if state.missing == 1 or not room:
                continue
            self._adopt(state)
            opening = state.next_block()
            if opening and opening in begun:
                continue
            begun.add(opening)
            taken = state.missing
            if taken > room:
                taken = max((state.cached + room) // BLOCK * BLOCK - state.cached, 0) or min(room, BLOCK)
            plan.append((number, state.ids[state.cached : state.cached + taken]))
            room -= taken
        return plan

    def _guess(self, state: _Session, room: int) -> list[int]:
        """How a reply may go on, no further than it may grow. None where tokens are drawn: the likeliest would not be what is written."""
        left = self._max_new - (len(state.ids) - state.prompt_end) - 1
        return self._drafter.draft(state.ids, min(room, left)) if self._temperature == 0 else []

    def _adopt(self, state: _Session) -> None:
        """Use the blocks that others have encoded of the same opening."""
        while (ids := state.next_block()) and (block := self._pool.share(ids)) is not None:
            state.blocks.append(block)
            state.cached += BLOCK
            state.computed += BLOCK

    def _forward(self, plan: list[tuple[int, list[int]]]) -> torch.Tensor:
        """Encode each session's tokens after those it has; final hidden states [tokens, width]."""
        ids: list[int] = []
        positions: list[int] = []
        rows: list[tuple[int, int, int, int]] = []
        tables: list[int] = []
        for number, new in plan:
            state = self._sessions[number]
            end = state.cached + len(new)
            while len(state.blocks) * BLOCK < end:
                state.blocks.append(self._pool.take())
            rows.append((len(ids), state.cached, len(new), len(tables)))
            ids += new
            positions += range(state.cached, end)
            tables += state.blocks
        layout = Layout(self._pool, torch.tensor(positions), torch.tensor(rows), torch.tensor(tables))
        return self._model.encode(torch.tensor(ids), layout)

    def _take_in(self, plan: list[tuple[int, list[int]]], hidden: torch.Tensor) -> list[Reply]:
        """What follows from a pass: prompts are further on, replies have grown; those that ended."""
        ends: list[int] = []  # rows after which a token is written
        owners: list[int] = []
        position = 0
        for number, new in plan:
            state, position = self._sessions[number], position + len(new)
            last = len(new) if state.missing == 1 else 1 if state.missing == len(new) else 0
            ends += range(position - last, position)
            owners += [number] * last
        written = iter(self._choose(self._model.logits(hidden[ends]), owners) if ends else ())
        replies = []
        for number, new in plan:
            state = self._sessions[number]
            if state.missing == 1:
                replies.append(self._accept(number, new[1:], [next(written) for _ in new]))
            else:
                self._encoded(state, len(new))
                replies.append(None if state.missing else self._grow(number, next(written)))
        return [reply for reply in replies if reply]

    def _accept(self, number: int, guess: list[int], written: list[int]) -> Reply | None:
        """Take what was written after each token of a reply, as long as the guess that it rests on was right; the reply if that ends it."""
        state = self._sessions[number]
        for place, token in enumerate(written):
            state.computed += int(state.cached < state.prompt_end)  # where it rests on a prompt's last token
            state.cached += 1
            if reply := self._grow(number, token):
                return reply
            if guess[place : place + 1] != [token]:
                break
        return None

    def _encoded(self, state: _Session, taken: int) -> None:
        """Count what a pass has encoded of a prompt, and let others use the blocks of an opening."""
        first, state.cached = state.cached, state.cached + taken
        state.computed += taken
        for block in range(first // BLOCK, min(state.cached, state.opening) // BLOCK):
            self._pool.publish(state.blocks[block], state.ids[: (block + 1) * BLOCK])

    def _choose(self, logits: torch.Tensor, numbers: list[int]) -> list[int]:
        """The next token of each session: the likeliest, or a draw of the session's own generator."""
        if self._temperature == 0:
            return logits.numpy().argmax(-1).tolist()  # type: ignore[no-any-return]  # torch's takes 10 times as long
        shares = torch.softmax(logits / self._temperature, -1)
        return [
            int(torch.multinomial(share, 1, generator=self._sessions[n].generator))
            for share, n in zip(shares, numbers, strict=True)
        ]

    def _grow(self, number: int, token: int) -> Reply | None:
        """Add a token to a reply; the reply if that ends it."""
        state = self._sessions[number]
        written = state.ids[state.prompt_end :]
        self._drafter.learn(state.ids, token)
        if token in self._ends:
            return self._finish(number, self._chat.read(self._tokenizer.decode(written)), len(written) + 1, "stop")
        state.ids.append(token)
        written.append(token)
        tail = self._tokenizer.decode(written[-16:])
        if any(stop in tail for stop in self._stop):
            text = self._chat.read(self._tokenizer.decode(written))
            if (end := thinking.end(text, self._stop)) is not None:
                return self._finish(number, text[:end], len(written), "stop")
        if len(written) == self._max_new:
            return self._finish(number, self._chat.read(self._tokenizer.decode(written)), len(written), "length")
        return None

    def _finish(self, number: int, text: str, reply_tokens: int, finish: str) -> Reply:
        state = self._sessions[number]
        self._keep(state, state.answer(self._chat, text))
        state.waiting = False
        return Reply(number, text, finish, state.prompt_end, state.computed, reply_tokens)
