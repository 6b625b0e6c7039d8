"""Which number format this machine computes in."""

from __future__ import annotations


def multiplies_bf16() -> bool:
    """Whether matrix products in bf16 are native here: on any GPU of today, and on processors with such an instruction. Elsewhere they are
    emulated, and many times slower than fp32."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return torch.cuda.is_available() or any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
