"""Which number format is chosen on which machine."""

from __future__ import annotations

import pytest
import torch

from stages.engines import cpu
from stages.models.numbers import multiplies_bf16


@pytest.mark.parametrize(("capability", "expected"), [("avx2", torch.float32), ("avx512_bf16", torch.bfloat16)])
def test_auto_asks_the_processor_even_beside_a_gpu(
    capability: str, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True})
    assert cpu.number_format("auto") == expected
    assert multiplies_bf16()  # training runs on the GPU
