"""Matrix products of the model's layers: as torch does them, packed for oneDNN, and with int8 weights and activations.

int8 here is torch's dynamic quantisation (FBGEMM): weights quantised beforehand, activations at every call, whose time is counted.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from common import best_seconds
from torch.nn.functional import linear

ROWS = (1, 16, 32, 150, 512)  # one reply, a batch of replies, a batch with a prompt's stretch, prompts
LAYERS = {"qkv": (576, 960), "out": (576, 576), "gate, up": (576, 3072), "down": (1536, 576), "head": (576, 49152)}


@torch.inference_mode()
def measure(dtype: torch.dtype) -> list[dict[str, Any]]:
    """GFLOP/s of each layer's product for each number of rows; the LM head only for the rows that a pass gives it."""
    torch.manual_seed(0)
    found = []
    for rows in ROWS:
        for layer, (inputs, outputs) in LAYERS.items():
            if layer != "head" or rows <= 32:
                calls = _calls(torch.randn(rows, inputs), torch.randn(outputs, inputs) / inputs**0.5, dtype)
                flops = 2e-9 * rows * inputs * outputs
                speeds = {kind: flops / best_seconds(call, 0.3) for kind, call in calls.items()}
                found.append({"layer": layer, "rows": rows, "inputs": inputs, "outputs": outputs, **speeds})
    return found


def _calls(x: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    low, low_weight = x.to(dtype), weight.to(dtype)
    packed = torch.ops.mkldnn._reorder_linear_weight(low_weight, len(x))
    quantised = _int8(weight)
    return {
        "plain": lambda: linear(low, low_weight),
        "packed": lambda: torch.ops.mkldnn._linear_pointwise(low, packed, None, "none", [], ""),
        "int8": lambda: quantised(x),
    }


def _int8(weight: torch.Tensor) -> torch.nn.Module:
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is to move to torchao, whose CPU kernels are these
        quantised = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(layer), {torch.nn.Linear})
    module: torch.nn.Module = quantised
    return module
