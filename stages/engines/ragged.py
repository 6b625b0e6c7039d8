"""Attention over a ragged batch: tokens of many conversations in one row, each looking into its own conversation's cache.

Plugged into transformers' models through their attention interface, so any decoder it knows can be run. Only the attention
sees that the row is ragged; every linear layer works on all tokens at once, with no padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "ragged"


@dataclass
class Layout:
    """Where a forward pass' tokens belong.

    `keys`, `values`: [layer, slot, kv head, position, head dim], written in place; attention runs in their number format. `slots`, `positions`: [token]. The first
    `decoding` tokens are one a slot (the next token of a reply), with `lengths` [decoding] positions to look at; the rest are
    `segments` (slot, first position, number of tokens) of prompts, in order.
    """

    keys: torch.Tensor
    values: torch.Tensor
    slots: torch.Tensor
    positions: torch.Tensor
    decoding: int
    lengths: torch.Tensor
    segments: list[tuple[int, int, int]]


def _decode(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, layout: Layout, scale: float
) -> torch.Tensor:
    """One query a slot: [heads, n, dim] -> [n, heads, dim]. The heads that share a key head are folded into the query
    length, so that no key is copied; slots without a query look at nothing that matters."""
    n, all_slots, kv_heads = layout.decoding, keys.shape[0], keys.shape[1]
    longest = int(layout.lengths.max())
    slots = layout.slots[:n]
    spread = query.new_zeros(all_slots, query.shape[0], query.shape[2])
    spread[slots] = query.transpose(0, 1)
    seen = torch.ones(all_slots, dtype=torch.long)
    seen[slots] = layout.lengths
    mask = torch.arange(longest)[None] < seen[:, None]
    out = scaled_dot_product_attention(
        spread.view(all_slots, kv_heads, -1, query.shape[2]),
        keys[:, :, :longest],
        values[:, :, :longest],
        attn_mask=mask[:, None, None],
        scale=scale,
    )
    return out.reshape(all_slots, -1, query.shape[2])[slots]


def _prefill(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, first: int, scale: float) -> torch.Tensor:
    """A stretch of one conversation: query [heads, n, dim], keys [kv heads, first + n, dim] -> [n, heads, dim]."""
    heads, n, dim = query.shape
    kv_heads = keys.shape[0]
    position = torch.arange(first, first + n)
    mask = torch.arange(first + n)[None] <= position[:, None]
    out = scaled_dot_product_attention(
        query.reshape(kv_heads, heads // kv_heads * n, dim)[None],
        keys[None],
        values[None],
        attn_mask=mask.repeat(heads // kv_heads, 1),
        scale=scale,
    )
    return out.reshape(heads, n, dim).transpose(0, 1)


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
    [1, tokens, heads, dim]. Writes the new keys and values into the cache first."""
    keys, values = layout.keys[module.layer_idx], layout.values[module.layer_idx]
    keys[layout.slots, :, layout.positions] = key[0].transpose(0, 1).to(keys.dtype)
    values[layout.slots, :, layout.positions] = value[0].transpose(0, 1).to(values.dtype)
    dtype, query = query.dtype, query.to(keys.dtype)
    parts = []
    if layout.decoding:
        parts.append(_decode(query[0, :, : layout.decoding], keys, values, layout, scaling))
    start = layout.decoding
    for slot, first, n in layout.segments:
        end = first + n
        part = _prefill(query[0, :, start : start + n], keys[slot, :, :end], values[slot, :, :end], first, scaling)
        parts.append(part)
        start += n
    return torch.cat(parts)[None].to(dtype), None


AttentionInterface.register(NAME, attention)
