"""How near encoding prompts and writing replies come to what the machine can do.

    python benchmarks/decode.py

The engine is talked to directly: `slots` sessions are given a prompt of some 600 tokens each, then a short second message. It runs twice, with
replies of 1 token and of 1 + 64, on a copy of the base model that cannot write its end token. The first prompts of the first run are the
measure of prefill. The second messages' time differs between the runs by exactly 64 passes that write one token of every session: the measure
of decoding. The limit of such a pass is the longer of two times: its bytes (weights, keys, values) at memory bandwidth, and its operations at
the speed of matrix products. Only a program that reads keys and values while it multiplies weights could reach it; a layer needs the one before
it, so the limit in sequence is the sum of the two parts' limits: weights and attention, each the longer of its own two times. An engine that encodes a common prefix once is held to what it computed.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from candidates.models import never_ending
from common import base_model, config_of, number_format, record, show
from flops import Decoder, decode, prefill
from limits import limits
from transformers import AutoTokenizer

from stages.core.params import Engine as Settings
from stages.core.params import load
from stages.core.records import Message
from stages.engines.base import Engine, Reply
from stages.engines.cpu import CpuEngine
from stages.engines.drafting import Drafter

PROMPT_TOKENS, PASSES = 600, 64
THINGS = (
    "apple",
    "book",
    "cabinet",
    "countertop",
    "drawer",
    "egg",
    "fridge",
    "keychain",
    "lamp",
    "mug",
    "pan",
    "plate",
    "shelf",
    "towel",
)


def prompt(tokenizer: Any, seed: int, tokens: int) -> str:
    """Text of about as many tokens, as an observation reads, no two seeds alike."""
    draw, text = random.Random(seed), "You see"
    while len(tokenizer(text)["input_ids"]) < tokens:
        text += "".join(f" a {draw.choice(THINGS)} {draw.randrange(1, 30)}," for _ in range(8))
    return text


@dataclass(frozen=True)
class Turn:
    """Seconds from the messages to the last reply, and the replies in the prompts' order."""

    seconds: float
    replies: list[Reply]


def talk(engine: Engine, prompts: Sequence[str]) -> list[Turn]:
    """A conversation of two turns with each prompt, all at once. Raises `RuntimeError` for a reply that ended before its limit."""
    system = Message("system", "You act in a household through text.")
    spoken = {engine.open(seed): [system, Message("user", text)] for seed, text in enumerate(prompts)}
    turns = []
    for _ in range(2):
        start = time.perf_counter()
        for session, messages in spoken.items():
            engine.submit(session, messages)
        replies: dict[int, Reply] = {}
        while len(replies) < len(spoken):
            replies |= {reply.session: reply for reply in engine.poll()}
        turns.append(Turn(time.perf_counter() - start, [replies[session] for session in spoken]))
        for session, messages in spoken.items():
            messages += [Message("assistant", replies[session].text), Message("user", "Nothing happens.")]
    for session in spoken:
        engine.close(session)
    ended = {reply.finish for turn in turns for reply in turn.replies} - {"length"}
    if ended:
        raise RuntimeError(
            f"replies ended by {', '.join(sorted(ended))} before their limit: nothing can be said of their pace"
        )
    return turns


def conversations(base: Path, settings: Settings, tokens: int, passes: int) -> tuple[list[Turn], list[Turn]]:
    """The two turns with replies of one token, and those with replies of `passes` more."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    prompts, short = ([prompt(tokenizer, seed, length) for seed in range(settings.slots)] for length in (tokens, 16))
    runs = []
    # Without guesses: a pass writes one token of every session.
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(Drafter, "draft", return_value=[]):
        model = Path(folder) / "model"
        never_ending(base, model)
        for new in (1, 1 + passes):
            sizes = {"slots": settings.slots, "context": settings.context, "max_new_tokens": new}
            engine = CpuEngine(model, None, dtype=settings.dtype, **sizes, temperature=0.0, stop=())
            talk(engine, short)  # whatever is compiled or packed at first use
            runs.append(talk(engine, prompts))
    return runs[0], runs[1]


def prefill_facts(decoder: Decoder, turn: Turn, machine: Mapping[str, float]) -> dict[str, Any]:
    """The section `prefill`, of a turn with replies of one token."""
    work = prefill(decoder, [(r.prompt_tokens - r.computed_tokens, r.computed_tokens) for r in turn.replies])
    return {
        "share_of_gemm": work / turn.seconds / 1e9 / machine["gemm_gflops"],
        "tokens_per_second": sum(r.computed_tokens for r in turn.replies) / turn.seconds,
        "gflops": work / turn.seconds / 1e9,
        "prompt_tokens": sum(r.prompt_tokens for r in turn.replies) // len(turn.replies),
        **machine,
    }


def decode_facts(
    decoder: Decoder, short: Turn, long: Turn, passes: int, number_bytes: int, machine: Mapping[str, float]
) -> dict[str, Any]:
    """The section `decode`, of two turns that differ by so many passes."""
    contexts = [r.prompt_tokens + passes // 2 for r in long.replies]  # halfway through
    parts = [
        (1e-6 * flops / machine["gemm_gflops"], 1e-6 * moved / machine["bandwidth_gbs"])
        for flops, moved in decode(decoder, contexts, number_bytes).values()
    ]
    computing, moving = (sum(times) for times in zip(*parts, strict=True))
    a_pass = 1000 * (long.seconds - short.seconds) / passes
    return {
        "share_of_limit": max(computing, moving) / a_pass,
        "share_of_limit_in_sequence": sum(map(max, parts)) / a_pass,
        "limited_by": "gemm" if computing > moving else "bandwidth",
        "ms_per_pass": a_pass,
        "gemm_ms_per_pass": computing,
        "bandwidth_ms_per_pass": moving,
        "tokens_per_second": 1000 * len(contexts) / a_pass,
        "context": sum(contexts) // len(contexts),
        **machine,
    }


def measure(
    base: Path, settings: Settings, tokens: int = PROMPT_TOKENS, passes: int = PASSES
) -> dict[str, dict[str, Any]]:
    """Both sections."""
    decoder = Decoder.of(config_of(base))
    dtype = number_format(settings)
    short, long = conversations(base, settings, tokens, passes)
    machine = limits(decoder, dtype)
    return {
        "prefill": prefill_facts(decoder, short[0], machine),
        "decode": decode_facts(decoder, short[1], long[1], passes, dtype.itemsize, machine),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks/decode.py")
    parser.add_argument("--slots", type=int, help="sessions; as in params.yaml if left out")
    parser.add_argument("--tokens", type=int, default=PROMPT_TOKENS, help="of a prompt")
    args = parser.parse_args()
    settings = load().engine
    settings = settings.model_copy(update={"slots": args.slots or settings.slots})
    sections = measure(base_model(), settings, args.tokens)
    for name, facts in sections.items():
        show(name.capitalize(), [{"figure": key, "value": value} for key, value in facts.items()])
    record(sections, {"slots": settings.slots, "prompt_tokens": args.tokens, "passes": PASSES})


if __name__ == "__main__":
    main()
