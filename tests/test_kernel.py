"""The engine's attention against torch's, on conversations whose blocks lie scattered in the pool."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from stages.engines import kernel
from stages.engines.base import EngineFault
from stages.engines.kernel import BLOCK, attend, padded
from stages.engines.ragged import PackedLinear

# (first position, new tokens) of each conversation of a pass: replies, prompts, one that ends with its block, one over many blocks.
PASS = ((0, 1), (63, 1), (64, 1), (200, 1), (0, 64), (5, 130), (128, 64), (700, 3))


def numbers(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR).to(dtype)


GENERATOR = torch.Generator()


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
    new_ones = [t[:, chosen] for t in (queries, whole_keys, whole_values)]
    out = attend(*new_ones, keys, values, torch.tensor(rows), scattered, 0.2)
    torch.testing.assert_close(out.float(), torch.cat(expected), atol=tolerance, rtol=tolerance)


def test_a_token_s_result_does_not_depend_on_where_its_prompt_is_cut_or_who_shares_the_pass() -> None:
    GENERATOR.manual_seed(3)
    n, dim = 150, 64
    q, k, v = (numbers(h, n, dim, dtype=torch.float32) for h in (6, 2, 2))
    table = torch.arange(8)

    def run(*cuts: tuple[int, int], beside: bool = False) -> torch.Tensor:
        keys, values = torch.zeros(8, 2, dim, BLOCK), torch.zeros(8, 2, BLOCK, dim)
        parts = []
        for first, new in cuts:
            rows = [[0, first, new, 0]] + ([[new, 0, 1, 4]] if beside else [])
            own = [torch.cat([t[:, first : first + new], t[:, :1]], 1) for t in (q, k, v)]
            parts.append(attend(*own, keys, values, torch.tensor(rows), table, 0.125)[:new])
        return torch.cat(parts)

    whole = run((0, n))
    assert torch.equal(whole, run((0, 17), (17, 64), (81, 69)))
    assert torch.equal(whole, run((0, 64), (64, 86), beside=True))


def test_a_packed_layer_gives_what_the_layer_gives() -> None:
    layer = torch.nn.Linear(96, 64)
    x = torch.randn(1, 7, 96)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(layer)(x), layer(x))


def test_a_missing_or_failing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compile_anew = kernel._library.__wrapped__
    monkeypatch.setattr(kernel.shutil, "which", lambda _: None)
    with pytest.raises(EngineFault, match=r"g\+\+ is missing"):
        compile_anew()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    broken = tmp_path / "attention.cpp"
    broken.write_text("int f( {")
    monkeypatch.setattr(kernel, "SOURCE", broken)
    with pytest.raises(EngineFault, match=r"attention\.cpp does not compile"):
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
