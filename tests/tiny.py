"""Tiny language models with random weights and a byte-level tokenizer, as folders that transformers loads.

A test module asks for them with `pytest_plugins = ["tiny"]`. The weights are drawn wide, so that two logits are never nearly
equal and a greedy reply is the same however its products are summed; the rows of letters and of the end token are stretched, so that
replies are mostly text and end by themselves now and then. Some hold half a character: bytes that decode to no text and are
encoded to other tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# A model that writes `t`, `h` has written other tokens than those the text is encoded to.
_MERGES = [("t", "h"), ("th", "e"), ("i", "n"), ("e", "r"), ("a", "n")]


def make_tokenizer() -> Any:
    """Bytes, a few merged pairs, and the special tokens of ChatML."""
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in _MERGES)]
    bare = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, _MERGES))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bare.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHATML
    return tokenizer


_SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.5,
    "tie_word_embeddings": False,
}


def save_model(folder: Path, config_class: Any, model_class: Any, **sizes: int) -> Path:
    """A model drawn from a fixed seed, in bf16 as the project keeps models, with its tokenizer; `sizes` are other ones than `_SIZES`."""
    tokenizer = make_tokenizer()
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    torch.manual_seed(5)
    ids = {"eos_token_id": eos, "pad_token_id": pad, "bos_token_id": None}
    config = config_class(vocab_size=len(tokenizer), **ids, **_SIZES | sizes)
    model = model_class(config)
    with torch.no_grad():
        letters = [n for n in range(eos) if len(w := tokenizer.decode([n])) and w.isascii() and w.isprintable()]
        model.lm_head.weight[letters] *= 1.7
        model.lm_head.weight[eos] *= 2
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_adapter(base: Path, folder: Path, rank: int = 4) -> Path:
    """A LoRA adapter of random weights for attention and MLP of every layer, saved as PEFT does; returns its folder."""
    from peft import LoraConfig, get_peft_model  # which few tests need, and which takes seconds

    torch.manual_seed(3)
    targets = ["q_proj", "v_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny_llama(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("llama"), LlamaConfig, LlamaForCausalLM)


@pytest.fixture(scope="session")
def tiny_qwen2(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("qwen2"), Qwen2Config, Qwen2ForCausalLM)
