"""Attention over a ragged batch: tokens of many conversations in one row, each looking into its own conversation's cache.

Plugged into transformers' models through their attention interface, so any decoder it knows can be run. Only the attention
sees that the row is ragged; every linear layer works on all tokens at once, with no padding. Keys and values lie in blocks of
`BLOCK` positions, handed out as conversations grow (paged attention, Kwon et al., arXiv 2309.06180): a pass reads what is
in use and no more, however different the lengths are.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "ragged"
BLOCK = 64
_NEVER = -1e30  # as a score: finite, so that a block nobody looks into gives zeros and not NaN


class BlockPool:
    """Keys and values of all conversations: [layer, block, kv head, BLOCK, head dim], in the model's number format."""

    def __init__(self, layers: int, blocks: int, kv_heads: int, dim: int, dtype: torch.dtype) -> None:
        shape = (layers, blocks, kv_heads, BLOCK, dim)
        # Not zeroed: the system hands out a page when it is first written, so unused blocks cost no memory.
        self.keys, self.values = torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=dtype)
        self._free = list(range(blocks))
        self.used = 0

    def take(self) -> int:
        """A block, the lowest that is free, so that those in use stay together at the front."""
        block = heapq.heappop(self._free)
        self.keys[:, block] = 0
        self.values[:, block] = 0
        self.used = max(self.used, block + 1)
        return block

    def give(self, blocks: list[int]) -> None:
        """Take blocks back."""
        for block in blocks:
            heapq.heappush(self._free, block)


@dataclass
class Layout:
    """Where a forward pass' tokens belong.

    `blocks`, `offsets` [token]: where each token's key and value go. The first `decoding` tokens are one a conversation (the next
    token of a reply); `owner` [block in use] names the one that looks into a block (`decoding`: none does), and `length`
    [block in use] counts the positions up to its end (it may be more than BLOCK). The other tokens are `segments` (blocks of the conversation,
    first position, number of tokens) of prompts, in order.
    """

    pool: BlockPool
    blocks: torch.Tensor
    offsets: torch.Tensor
    decoding: int
    owner: torch.Tensor
    length: torch.Tensor
    segments: list[tuple[list[int], int, int]]


@torch.compile(dynamic=True)
def _look(
    query: torch.Tensor,
    owner: torch.Tensor,
    length: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What each block contributes to its owner's softmax: highest score, sum of exponentials under it, weighted values.

    Compiled into one loop that reads a block once, in its own number format: half the time of batched matrix products in fp32.
    """
    heads, n, dim = query.shape
    rows = torch.cat([query.transpose(0, 1), query.new_zeros(1, heads, dim)]).view(n + 1, keys.shape[1], -1, dim)
    scores = (rows[owner][:, :, :, None] * keys[:, :, None].float()).sum(-1) * scale
    beyond = torch.arange(BLOCK)[None, None, None] >= length[:, None, None, None]
    scores = scores.masked_fill(beyond, _NEVER)
    top = scores.amax(-1)
    shares = (scores - top[..., None]).exp()
    return top, shares.sum(-1), (shares[..., None] * values[:, :, None].float()).sum(-2)


def _decode(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, layout: Layout, scale: float
) -> torch.Tensor:
    """One query a conversation: [heads, n, dim] -> [n, heads, dim].

    A softmax in parts: a conversation's blocks are added up under their common maximum.
    """
    heads, n, dim = query.shape
    owner = layout.owner
    top, total, mixed = _look(query, owner, layout.length, keys, values, scale)
    highest = top.new_full((n + 1, *top.shape[1:]), _NEVER)
    highest.scatter_reduce_(0, owner[:, None, None].expand_as(top), top, "amax")
    weight = (top - highest[owner]).exp_()
    sums = top.new_zeros(n + 1, *top.shape[1:]).index_add_(0, owner, total * weight)
    out = mixed.new_zeros(n + 1, *mixed.shape[1:]).index_add_(0, owner, mixed * weight[..., None])
    return (out[:n] / sums[:n, ..., None]).reshape(n, heads, dim)


def _prefill(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, first: int, scale: float) -> torch.Tensor:
    """A stretch of one conversation: query [heads, n, dim]; keys, values [blocks, kv heads, BLOCK, dim] -> [n, heads, dim].

    In fp32: torch's attention in bf16 on a CPU is several times slower.
    """
    heads, n, dim = query.shape
    kv_heads, end = keys.shape[1], first + n
    own_keys, own_values = (t.transpose(0, 1).reshape(kv_heads, -1, dim)[None, :, :end].float() for t in (keys, values))
    mask = torch.arange(end)[None] <= torch.arange(first, end)[:, None]
    # The heads that share a key head are folded into the query length, so that no key is copied for them.
    folded = query.reshape(kv_heads, heads // kv_heads * n, dim)[None]
    mask = mask.repeat(heads // kv_heads, 1)
    out = scaled_dot_product_attention(folded, own_keys, own_values, attn_mask=mask, scale=scale)
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
    [1, tokens, heads, dim]. Writes the new keys and values into the pool first."""
    keys, values = layout.pool.keys[module.layer_idx], layout.pool.values[module.layer_idx]
    keys[layout.blocks, :, layout.offsets] = key[0].transpose(0, 1)
    values[layout.blocks, :, layout.offsets] = value[0].transpose(0, 1)
    dtype, query = query.dtype, query[0].float()
    parts = []
    if layout.decoding:
        used = layout.pool.used
        parts.append(_decode(query[:, : layout.decoding], keys[:used], values[:used], layout, scaling))
    start = layout.decoding
    for blocks, first, n in layout.segments:
        parts.append(_prefill(query[:, start : start + n], keys[blocks], values[blocks], first, scaling))
        start += n
    return torch.cat(parts)[None].to(dtype), None


AttentionInterface.register(NAME, attention)
