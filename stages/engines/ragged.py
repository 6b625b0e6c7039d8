"""A model of transformers that runs a ragged batch: tokens of many conversations in one row, each looking into its own conversation's cache.

Plugged in through transformers' attention interface, so any decoder it knows can be run. Only the attention sees that the row is ragged; every
linear layer works on all tokens at once, with no padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface

from stages.engines.blocks import BlockPool
from stages.engines.kernel import attend

NAME = "ragged"


@dataclass
class Layout:
    """Where a forward pass' tokens belong: `stretches` and `tables` as `kernel.attend` takes them."""

    pool: BlockPool
    stretches: torch.Tensor
    tables: torch.Tensor


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    layout: Layout,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: query [1, heads, tokens, dim], key and value [1, kv heads, tokens, dim] ->
    [1, tokens, heads, dim]."""
    keys, values = layout.pool.keys[module.layer_idx], layout.pool.values[module.layer_idx]
    out = attend(query[0], key[0], value[0], keys, values, layout.stretches, layout.tables, scaling)
    return out[None], None


AttentionInterface.register(NAME, attention)


class PackedLinear(nn.Module):
    """A linear layer whose weight lies as oneDNN multiplies it. In bf16 torch would bring it into that order at every call; in fp32 the head, on the
    few rows of a pass that it is run on, gains a third and more."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._bias = linear.bias
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return out


def pack(model: nn.Module) -> None:
    """Replace a model's linear layers by packed ones."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, PackedLinear(child))
