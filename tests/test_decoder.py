"""The engine's decoder against transformers' modules, a conversation in one row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from stages.engines import decoder
from stages.engines.base import EngineFault
from stages.engines.blocks import BlockPool
from stages.engines.decoder import Decoder, Layout, Linear

pytest_plugins = ["tiny"]


def run(model: Decoder, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    config: Any = model.config
    dim = config.hidden_size // config.num_attention_heads
    pool = BlockPool(config.num_hidden_layers, 4, config.num_key_value_heads, dim, dtype)
    layout = Layout(pool, torch.arange(len(ids)), torch.tensor([[0, 0, len(ids), 0]]), torch.arange(4))
    with torch.inference_mode():
        return model.logits(model.encode(ids, layout))


@pytest.mark.parametrize("family", ["tiny_llama", "tiny_qwen2"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)])
def test_logits_are_those_of_transformers(
    family: str, dtype: torch.dtype, tolerance: float, request: pytest.FixtureRequest
) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(request.getfixturevalue(family), dtype=torch.float32)
    ids = torch.randint(0, 250, (150,), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = model(input_ids=ids[None]).logits[0]
    out = run(Decoder(model, dtype), ids, dtype)
    assert out.dtype == torch.float32
    assert ((out - expected).norm(dim=-1) / expected.norm(dim=-1)).median() < tolerance


def test_products_are_prepared_for_few_numbers_of_rows(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Decoder(AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32), torch.float32)
    multiplied: set[int] = set()
    real = Linear.__call__

    def counted(self: Linear, x: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        multiplied.add(len(x))
        return real(self, x, onto)

    monkeypatch.setattr(Linear, "__call__", counted)
    for tokens in (1, 7, 8, 9, 15):
        assert len(run(model, torch.arange(tokens), torch.float32)) == tokens
    assert multiplied == {8, 16}


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                                     "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
                    max_position_embeddings=512, attention_bias=True, mlp_bias=True, **(SIZES := {
                        "vocab_size": 60, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2,
                        "num_attention_heads": 4, "num_key_value_heads": 1})),
        Qwen2Config(tie_word_embeddings=True, max_position_embeddings=512, **SIZES),
    ],
)  # fmt: skip
def test_biases_stretched_rotations_and_tied_embeddings_are_taken_over(config: Any) -> None:
    torch.manual_seed(4)
    model = (LlamaForCausalLM if config.model_type == "llama" else Qwen2ForCausalLM)(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_()
    ids = torch.randint(0, 60, (200,))
    with torch.inference_mode():
        expected = model(input_ids=ids[None]).logits[0]
    torch.testing.assert_close(run(Decoder(model, torch.float32), ids, torch.float32), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("packs", [True, False])
def test_maps_of_the_same_input_are_one_product(packs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not packs:
        monkeypatch.setattr(decoder.torch.backends.mkldnn, "is_available", lambda: False)
    maps = [torch.nn.Linear(96, 64), torch.nn.Linear(96, 32)]
    x, onto = torch.randn(7, 96), torch.randn(7, 96)
    with torch.inference_mode():
        expected = torch.cat([one(x) for one in maps], 1)
        both = Linear(maps, torch.float32)
        torch.testing.assert_close(both(x), expected)
        torch.testing.assert_close(both(x, onto=onto), expected + onto)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"model_type": "gpt2"}, "gpt2 with silu"),
        ({"hidden_act": "gelu"}, "llama with gelu"),
        ({"use_sliding_window": True}, "llama with silu and sliding windows"),
    ],
)
def test_another_kind_of_model_is_refused(settings: dict[str, Any], kind: str, tiny_llama: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_llama)
    for key, value in settings.items():
        setattr(model.config, key, value)
    with pytest.raises(EngineFault, match=f"runs llama and qwen2 decoders.*the model is {kind}: choose another"):
        Decoder(model, torch.float32)
