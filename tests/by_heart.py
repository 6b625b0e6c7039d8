"""A tiny model of the Qwen2 architecture that has learnt conversations by heart, so that it wins what it was shown and nothing else."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny import make_tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM

from stages.core.records import Message
from stages.models.chat import IGNORED, encode


def save_by_heart(folder: Path, conversations: list[list[Message]]) -> None:
    """Draw a small model at random, train it until it repeats the conversations' replies, and save it with its tokenizer."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )
    examples = [encode(tokenizer, messages) for messages in conversations]
    longest = max(len(e.input_ids) for e in examples)
    ids = torch.tensor([e.input_ids + [0] * (longest - len(e.input_ids)) for e in examples])
    labels = torch.tensor([e.labels + [IGNORED] * (longest - len(e.labels)) for e in examples])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(400):
        loss = model(input_ids=ids, labels=labels).loss
        if loss.item() < 0.002:
            model.to(torch.bfloat16).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            return
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    raise AssertionError(f"the model did not learn by heart: loss {loss.item():.4f}")
