"""Floating-point operations and bytes of a decoder such as Llama's or Qwen2's: what a program must do at least.

A multiplication with an addition counts two. What is small beside matrix products (norms, rotations, softmax, the optimiser) counts nothing,
so shares of a limit err on the low side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Decoder:
    """Sizes: `heads` and `kv_heads` of `head_dim` numbers each, an MLP of `inner` with a gate, `words` in the vocabulary."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    words: int

    @classmethod
    def of(cls, config: Any) -> Decoder:
        """From transformers' configuration of the model."""
        return cls(
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            config.intermediate_size,
            config.vocab_size,
        )

    @property
    def linears(self) -> list[tuple[int, int]]:
        """Inputs and outputs of one layer's linear maps: query, key, value, output, gate, up, down."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return [
            (self.width, queries),
            (self.width, keys),
            (self.width, keys),
            (queries, self.width),
            (self.width, self.inner),
            (self.width, self.inner),
            (self.inner, self.width),
        ]

    @property
    def body(self) -> int:
        """Weights that every token is multiplied with: all layers, without embeddings and head."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def head(self) -> int:
        """Weights of the language-model head."""
        return self.width * self.words

    def adapter(self, rank: int) -> int:
        """Weights of a LoRA adapter on all linear maps of the layers."""
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in self.linears)

    def attention(self, first: int, n: int) -> int:
        """FLOPs of causal attention for `n` tokens from position `first` on: scores and weighted values over all positions up to each."""
        seen = n * first + n * (n + 1) // 2
        return 4 * self.layers * self.heads * self.head_dim * seen

    def cache(self, tokens: int) -> int:
        """Numbers that are kept for `tokens` positions: keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_dim * tokens


def prefill(decoder: Decoder, stretches: Iterable[tuple[int, int]]) -> int:
    """FLOPs of encoding prompts, each `n` tokens from position `first` on, and of the one token that follows each:
    2 x body x n + attention + 2 x head."""
    return sum(2 * decoder.body * n + decoder.attention(first, n) + 2 * decoder.head for first, n in stretches)


def decode(decoder: Decoder, contexts: Sequence[int], number_bytes: int) -> dict[str, tuple[int, int]]:
    """FLOPs and bytes of one pass that writes a token of each session, of its two parts: `weights` and `attention`. `contexts` counts the
    sessions' positions, the new one included. All weights, keys and values are read once, in numbers of `number_bytes`."""
    weights = decoder.body + decoder.head
    flops = sum(decoder.attention(length - 1, 1) for length in contexts)
    return {
        "weights": (2 * weights * len(contexts), number_bytes * weights),
        "attention": (flops, number_bytes * decoder.cache(sum(contexts))),
    }


def training(decoder: Decoder, rank: int, examples: Iterable[tuple[int, int]]) -> int:
    """FLOPs of one LoRA epoch on a frozen base; `examples` are tokens T and supervised tokens S of each.

    Body and head are passed forward and, for the activations alone, backward (frozen weights have no gradient): 4 x body x T + 4 x head x S.
    The adapter has gradients of its own: 6 x adapter x T. Attention's backward pass has twice its forward products: 3 x attention.
    """
    return sum(
        (4 * decoder.body + 6 * decoder.adapter(rank)) * tokens
        + 4 * decoder.head * supervised
        + 3 * decoder.attention(0, tokens)
        for tokens, supervised in examples
    )
