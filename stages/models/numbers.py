"""Which number format this machine computes in."""

from __future__ import annotations


def processor_multiplies_bf16() -> bool:
    """Whether the processor has an instruction for matrix products in bf16. Without one they are emulated, and many times slower than fp32."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def multiplies_bf16() -> bool:
    """Whether matrix products in bf16 are native where training runs: on any GPU of today; without one, on such processors."""
    import torch

    return torch.cuda.is_available() or processor_multiplies_bf16()
