"""What identifies a model: its weights, whatever file holds them."""

from __future__ import annotations

import hashlib
from typing import Any


def weights_digest(model: Any) -> str:
    """SHA-256 over name, shape and bf16 bytes of every parameter, in the order of names: the same for equal weights
    whatever library version wrote their file."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()
