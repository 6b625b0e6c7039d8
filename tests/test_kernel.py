"""The engine's kernels against torch and transformers; attention on conversations whose blocks lie scattered in the pool."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention, silu
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding, apply_rotary_pos_emb

from stages.engines import kernel
from stages.engines.base import EngineFault
from stages.engines.kernel import BLOCK, attend, padded

# (first position, new tokens) of each conversation of a pass: replies, prompts, one that ends with its block, one over many blocks.
PASS = ((0, 1), (63, 1), (64, 1), (200, 1), (0, 64), (5, 130), (128, 64), (700, 3))


def numbers(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR).to(dtype)


GENERATOR = torch.Generator()


def mix(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """[heads or kv heads, tokens, dim] each -> rows as `attend` takes them."""
    return torch.cat([query, key, value]).transpose(0, 1).flatten(1).contiguous()


def unturned(tokens: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of angles of 0."""
    return torch.ones(tokens, dim // 2), torch.zeros(tokens, dim // 2)


@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(9, 3, 64), (4, 4, 12), (28, 4, 128), (6, 1, 96)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
def test_every_token_looks_at_its_own_conversation_up_to_itself(
    heads: int, kv_heads: int, dim: int, dtype: torch.dtype, tolerance: float
) -> None:
    GENERATOR.manual_seed(heads * dim)
    total = sum(first + new for first, new in PASS)
    blocks = [-(-(first + new) // BLOCK) for first, new in PASS]
    scattered = torch.randperm(sum(blocks), generator=GENERATOR)
    keys = torch.full((sum(blocks), kv_heads, dim, BLOCK), torch.nan, dtype=dtype)
    values = torch.full((sum(blocks), kv_heads, BLOCK, padded(dim)), torch.nan, dtype=dtype)
    whole_keys, whole_values = (numbers(kv_heads, total, dim, dtype=dtype) for _ in range(2))
    queries = numbers(heads, total, dim, dtype=dtype)
    rows, expected, chosen, begin, table = [], [], [], 0, 0
    for (first, new), size in zip(PASS, blocks, strict=True):
        own = slice(begin, begin + first + new)
        for position in range(first):
            block, offset = scattered[table + position // BLOCK], position % BLOCK
            keys[block, :, :, offset] = whole_keys[:, begin + position]
            values[block, :, offset, :dim] = whole_values[:, begin + position]
        rows.append((len(chosen), first, new, table))
        chosen += range(begin + first, begin + first + new)
        mask = torch.arange(first + new)[None] <= torch.arange(first, first + new)[:, None]
        k, v = (t[:, own].float().repeat_interleave(heads // kv_heads, 0) for t in (whole_keys, whole_values))
        q = queries[:, begin + first : begin + first + new].float()
        expected.append(scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.2).transpose(0, 1))
        begin, table = own.stop, table + size
    mixed = mix(*(t[:, chosen] for t in (queries, whole_keys, whole_values)))
    out = attend(mixed, *unturned(len(chosen), dim), keys, values, torch.tensor(rows), scattered, 0.2)
    torch.testing.assert_close(out.float(), torch.cat(expected).flatten(1), atol=tolerance, rtol=tolerance)


def test_queries_and_keys_are_turned_as_in_transformers() -> None:
    GENERATOR.manual_seed(1)
    tokens, dim = 90, 64
    q, k, v = (numbers(h, tokens, dim, dtype=torch.float32) for h in (4, 2, 2))
    config = LlamaConfig(hidden_size=256, num_attention_heads=4, num_key_value_heads=2)
    cos, sin = LlamaRotaryEmbedding(config)(q, torch.arange(tokens)[None])
    turned_q, turned_k = apply_rotary_pos_emb(q[None], k[None], cos, sin)
    halves = [part[0, :, : dim // 2].contiguous() for part in (cos, sin)]

    def run(mixed: torch.Tensor, halves: Sequence[torch.Tensor]) -> torch.Tensor:
        keys, values = torch.zeros(2, 2, dim, BLOCK), torch.zeros(2, 2, BLOCK, dim)
        return attend(mixed, *halves, keys, values, torch.tensor([[0, 0, tokens, 0]]), torch.arange(2), 0.125)

    expected = run(mix(turned_q[0], turned_k[0], v), unturned(tokens, dim))
    torch.testing.assert_close(run(mix(q, k, v), halves), expected, atol=2e-5, rtol=2e-5)


# bf16 too, whose blocks are widened in another place for few rows than for many.
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_token_s_result_does_not_depend_on_where_its_prompt_is_cut_or_who_shares_the_pass(dtype: torch.dtype) -> None:
    GENERATOR.manual_seed(3)
    n, dim = 150, 64
    q, k, v = (numbers(h, n, dim, dtype=dtype) for h in (6, 2, 2))
    table = torch.arange(8)

    def run(*cuts: tuple[int, int], beside: bool = False) -> torch.Tensor:
        keys, values = torch.zeros(8, 2, dim, BLOCK, dtype=dtype), torch.zeros(8, 2, BLOCK, dim, dtype=dtype)
        parts = []
        for first, new in cuts:
            rows = [[0, first, new, 0]] + ([[new, 0, 1, 4]] if beside else [])
            mixed = mix(*(torch.cat([t[:, first : first + new], t[:, :1]], 1) for t in (q, k, v)))
            turns = unturned(new + 1, dim)
            parts.append(attend(mixed, *turns, keys, values, torch.tensor(rows), table, 0.125)[:new])
        return torch.cat(parts)

    whole = run((0, n))
    assert torch.equal(whole, run((0, 17), (17, 64), (81, 69)))
    assert torch.equal(whole, run((0, 64), (64, 86), beside=True))
    assert torch.equal(whole, run((0, 1), (1, 80), (81, 2), (83, 67)))


# A width of whole vectors, and one that is not.
@pytest.mark.parametrize("width", [576, 75])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_norm_and_gate_give_what_transformers_modules_give(width: int, dtype: torch.dtype, tolerance: float) -> None:
    GENERATOR.manual_seed(width)
    x = 30 * numbers(7, 2 * width, dtype=dtype)  # to where SiLU is 0 and x itself
    expected = silu(x[:, :width].float()) * x[:, width:].float()
    torch.testing.assert_close(kernel.gate(x).float(), expected, atol=tolerance, rtol=tolerance)
    norm = LlamaRMSNorm(2 * width, eps=1e-5).to(dtype)
    with torch.inference_mode():
        norm.weight.copy_(numbers(2 * width, dtype=dtype))
        out = kernel.norm(x, norm.weight, 1e-5)
        torch.testing.assert_close(out, norm(x), atol=tolerance, rtol=tolerance)


def test_a_missing_or_failing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compile_anew = kernel._library.__wrapped__
    monkeypatch.setattr(kernel.shutil, "which", lambda _: None)
    with pytest.raises(EngineFault, match=r"g\+\+ is missing"):
        compile_anew()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    broken = tmp_path / "attention.cpp"
    broken.write_text("int f( {")
    monkeypatch.setattr(kernel, "SOURCES", (broken,))
    with pytest.raises(EngineFault, match=r"(?s)kernels do not compile.*attention\.cpp"):
        compile_anew()
    assert not list((tmp_path / ".cache" / "kernels").iterdir()), "nothing half-made may be left"


def test_the_compiled_kernel_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    compile_anew = kernel._library.__wrapped__
    compile_anew()
    calls = []
    run = subprocess.run
    monkeypatch.setattr(kernel.subprocess, "run", lambda command, **how: calls.append(command) or run(command, **how))
    compile_anew()
    assert [("-shared" in command) for command in calls] == [False]
