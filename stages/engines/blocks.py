"""Keys and values of all conversations, in blocks (paged attention, Kwon et al., arXiv 2309.06180).

Blocks are handed out as conversations grow. Those of an opening are known by the ids that they end: a conversation that opens alike uses them too,
so that a system prompt is encoded once, however many episodes begin with it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import torch

from stages.engines.kernel import BLOCK, padded

_KEPT = 64  # known blocks that are kept though nobody uses them now, the newest ones


class BlockPool:
    """keys [layer, block, kv head, head dim, BLOCK] and values [layer, block, kv head, BLOCK, head dim] in the model's number format."""

    def __init__(self, layers: int, blocks: int, kv_heads: int, dim: int, dtype: torch.dtype) -> None:
        # Not zeroed: the system hands out a page when it is first written, so unused blocks cost no memory.
        self.keys = torch.empty((layers, blocks, kv_heads, dim, BLOCK), dtype=dtype)
        self.values = torch.empty((layers, blocks, kv_heads, BLOCK, padded(dim)), dtype=dtype)
        self._free = list(range(blocks))
        self._users = [0] * blocks
        self._known: dict[tuple[int, ...], int] = {}
        self._key: dict[int, tuple[int, ...]] = {}
        self._idle: dict[int, None] = {}  # known blocks that nobody uses, the oldest first

    def take(self) -> int:
        """A block of one's own, the lowest that is free, so that those in use stay together and cost little memory."""
        if not self._free:
            self._forget()
        block = heapq.heappop(self._free)
        self._users[block] = 1
        return block

    def publish(self, block: int, ids: Sequence[int]) -> None:
        """Let others use a full block that is encoded; `ids` are its conversation's up to its end."""
        key = tuple(ids)
        if key not in self._known:
            self._known[key], self._key[block] = block, key

    def share(self, ids: Sequence[int]) -> int | None:
        """The block that ends these ids, if one is known: one more conversation uses it."""
        block = self._known.get(tuple(ids))
        if block is not None:
            self._users[block] += 1
            self._idle.pop(block, None)
        return block

    def give(self, blocks: Sequence[int]) -> None:
        """Take back what a conversation used."""
        for block in blocks:
            self._users[block] -= 1
            if self._users[block]:
                continue
            if block in self._key:
                self._idle[block] = None
            else:
                heapq.heappush(self._free, block)
        while len(self._idle) > _KEPT:
            self._forget()

    def _forget(self) -> None:
        block = next(iter(self._idle))
        del self._idle[block], self._known[self._key.pop(block)]
        heapq.heappush(self._free, block)
