"""Models with several end tokens: the embedded engine stops where transformers' `generate` does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages.core.records import Message
from stages.engines.base import Reply
from stages.engines.cpu import CpuEngine

pytest_plugins = ["tiny"]

ASKED = [[Message("user", text)] for text in ("You see a box 1.", "Hi.", "Look at the pan 2.", "a", "In the den.")]


@pytest.fixture
def base(tiny_qwen2: Path, tmp_path: Path) -> Path:
    """A model that often writes <|endoftext|>, which generation_config.json names beside its end of turn."""
    shutil.copytree(tiny_qwen2, tmp_path / "model")
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_qwen2)
    tokenizer = AutoTokenizer.from_pretrained(tiny_qwen2)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.pad_token_id] = model.lm_head.weight[tokenizer.eos_token_id] * -1.5
    model.save_pretrained(tmp_path / "model")
    set_ends(tmp_path / "model", [tokenizer.eos_token_id, tokenizer.pad_token_id])
    return tmp_path / "model"


def set_ends(base: Path, ends: Any) -> None:
    path = base / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": ends}))


def embedded(base: Path) -> list[Reply]:
    engine = CpuEngine(base, None, dtype="float32", slots=2, context=512, max_new_tokens=24, temperature=0.0, stop=())
    replies = []
    for messages in ASKED:
        session = engine.open(0)
        engine.submit(session, messages)
        replies += engine.poll()
        engine.close(session)
    return replies


def generated(base: Path) -> list[tuple[str, int, str]]:
    """Text, tokens and end of each reply, by transformers."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(base)
    replies = []
    for messages in ASKED:
        plain = [{"role": m.role, "content": m.content} for m in messages]
        prompt = tokenizer.apply_chat_template(plain, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        written = model.generate(**prompt, do_sample=False, max_new_tokens=24)[0, prompt["input_ids"].shape[1] :]
        ended = written[-1] in (tokenizer.eos_token_id, tokenizer.pad_token_id)
        text = tokenizer.decode(written[:-1] if ended else written)
        replies.append((text, len(written), "stop" if ended else "length"))
    return replies


def test_a_reply_ends_at_each_of_them(base: Path) -> None:
    replies = embedded(base)
    assert [(r.text, r.reply_tokens, r.finish) for r in replies] == generated(base)
    ends = AutoTokenizer.from_pretrained(base)
    set_ends(base, ends.eos_token_id)
    assert [r.text for r in embedded(base)] != [r.text for r in replies], "some ended at the other token"


def test_the_tokenizers_own_ends_a_reply_whatever_the_file_says(base: Path, tiny_qwen2: Path) -> None:
    both = embedded(base)
    set_ends(base, AutoTokenizer.from_pretrained(base).pad_token_id)
    assert embedded(base) == both
