"""Hints from a real server that holds answers to a JSON schema: llama.cpp's own, with a model drawn at random, which left alone writes no JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from candidates.servers import Room, started
from fake_server import FakeServer
from safetensors.torch import load_file, save_file
from test_hint_writers import LOST, study_with
from tiny import make_tokenizer, save_model
from transformers import LlamaConfig, LlamaForCausalLM

from stages.hinting import asking
from stages.hinting.alfworld import RULES
from stages.hinting.base import Failure
from stages.hinting.writers import llm

pytestmark = pytest.mark.slow


def write_no_half_characters(folder: Path) -> None:
    """Leave out the bytes beyond ASCII, alone no text: llama.cpp gives up a reply that ends within a character."""
    tokenizer = make_tokenizer()
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][[n for n in range(len(tokenizer)) if not tokenizer.decode([n]).isascii()]] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_every_answer_of_llama_cpps_server_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xllamacpp")
    monkeypatch.setattr(asking, "ANSWERS", tmp_path / "answers")
    base = save_model(tmp_path / "model", LlamaConfig, LlamaForCausalLM, max_position_embeddings=8192)
    write_no_half_characters(base)
    place = FakeServer()
    with started("llama.cpp", base, Room(4, 8192, 2, torch.float32)) as running:
        place.url = running.url
        study = study_with(place, context=8192, max_tokens=1200, slots=4, timeout=120.0)
        few = study.hints.model_copy(update={"max_chars": 40, "per_failure": {"alfworld": 2}})
        failures = [Failure(replace(LOST[n % 4], episode_id=f"e{n}", goal=f"put egg {n} in shelf")) for n in range(100)]
        found = llm.write(failures, RULES, study.model_copy(update={"hints": few}))
    assert {answer.calls for answer in found.answers} == {1} and len(found.answers) == 100
    assert {answer.outcome for answer in found.answers} <= {"hints", "none"} and len(found.hints) > 50
    for answer in found.answers:
        texts = json.loads(answer.reply)["hints"]
        assert len(texts) <= 2 and all(len(text) <= 80 for text in texts)
