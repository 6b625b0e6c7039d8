"""The decoder that the embedded engine runs: Llama's and Qwen2's, for a ragged batch, tokens of many conversations in one row.

Its weights are those of transformers' model, its arithmetic the same up to rounding. Only attention sees that the row is ragged; every
matrix product works on all tokens at once, with no padding. Maps of the same input are one product, and what lies between products goes over
memory once: in transformers' modules, where each operation is a call of its own, that took as long as the products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stages.engines import kernel
from stages.engines.base import EngineFault
from stages.engines.blocks import BlockPool
from stages.models.numbers import processor_multiplies_bf16

FAMILIES = ("llama", "qwen2")
_ROWS = 8  # passes have a multiple of as many: for each number of rows that it meets, oneDNN prepares a product of each shape, and keeps it


@dataclass
class Layout:
    """Where a pass' tokens belong: `positions` [tokens] in their conversations, `stretches` and `tables` as `kernel.attend` takes them."""

    pool: BlockPool
    positions: torch.Tensor
    stretches: torch.Tensor
    tables: torch.Tensor


class Linear:
    """Linear maps of the same input as one, its weight lying as oneDNN multiplies it (in bf16 torch would bring it into that order at every
    call)."""

    def __init__(self, maps: Sequence[nn.Linear], dtype: torch.dtype) -> None:
        weight = torch.cat([one.weight.detach() for one in maps]).to(dtype)
        biases = [one.bias.detach() for one in maps if one.bias is not None]
        self._bias = torch.cat(biases).to(dtype) if biases else None
        available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        self._packed = available and (dtype == torch.float32 or processor_multiplies_bf16())
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight) if self._packed else weight

    def __call__(self, x: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        """x [tokens, inputs] -> [tokens, outputs], added to `onto` if that is given."""
        out: torch.Tensor
        if not self._packed:
            out = nn.functional.linear(x, self._weight, self._bias)
            return out if onto is None else out + onto
        if onto is None:
            out = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        else:
            out = torch.ops.mkldnn._linear_pointwise.binary(x, onto, self._weight, self._bias, "add")
        return out


class Norm:
    """A root mean square norm."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self._weight, self._epsilon = module.weight.detach().to(dtype), module.variance_epsilon

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return kernel.norm(x, self._weight, self._epsilon)


class Layer:
    """Attention and MLP, each on a norm of the row and added to it."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        heads, mlp = layer.self_attn, layer.mlp
        self._scale = heads.scaling
        self._before_heads, self._before_mlp = (
            Norm(module, dtype) for module in (layer.input_layernorm, layer.post_attention_layernorm)
        )
        self._mix, self._out = Linear([heads.q_proj, heads.k_proj, heads.v_proj], dtype), Linear([heads.o_proj], dtype)
        self._up, self._down = Linear([mlp.gate_proj, mlp.up_proj], dtype), Linear([mlp.down_proj], dtype)

    def __call__(
        self,
        x: torch.Tensor,
        turns: tuple[torch.Tensor, torch.Tensor],
        keys: torch.Tensor,
        values: torch.Tensor,
        layout: Layout,
    ) -> torch.Tensor:
        mixed = self._mix(self._before_heads(x))
        seen = kernel.attend(mixed, *turns, keys, values, layout.stretches, layout.tables, self._scale)
        x = self._out(seen, onto=x)
        return self._down(kernel.gate(self._up(self._before_mlp(x))), onto=x)


class Decoder:
    """A causal language model of transformers, in fp32, taken over in a number format. `ends` are the tokens that end what it writes, by its
    generation_config.json. Raises `EngineFault` for a kind that this is not."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.config = model.config
        _check(self.config)
        ends = model.generation_config.eos_token_id
        self.ends: set[int] = {ends} if isinstance(ends, int) else set(ends or ())
        body = model.model
        self._embedding = body.embed_tokens.weight.detach().to(dtype)
        self._rotary = body.rotary_emb
        self._layers = [Layer(layer, dtype) for layer in body.layers]
        self._norm = Norm(body.norm, dtype)
        self._head = Linear([model.lm_head], dtype)

    def encode(self, ids: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Encode tokens [tokens] after those that their conversations have; final hidden states [tokens, width]."""
        x = _filled(self._embedding[ids])
        whole = self._rotary(x.new_empty(0, dtype=torch.float32), layout.positions[None])
        # Both halves are the same.
        turns = tuple(part[0, :, : part.shape[-1] // 2].contiguous() for part in whole)
        pool = layout.pool
        for layer, keys, values in zip(self._layers, pool.keys, pool.values, strict=True):
            x = layer(x, turns, keys, values, layout)
        return self._norm(x)[: len(ids)]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden [tokens, width] -> [tokens, vocabulary] in fp32."""
        return self._head(_filled(hidden))[: len(hidden)].float()


def _filled(x: torch.Tensor) -> torch.Tensor:
    """x [tokens, width] with rows of zeros below, up to a number of rows that products are prepared for."""
    return nn.functional.pad(x, (0, 0, 0, -len(x) % _ROWS))


def _check(config: Any) -> None:
    windows = getattr(config, "use_sliding_window", False)
    if config.model_type not in FAMILIES or config.hidden_act != "silu" or windows:
        kind = f"{config.model_type} with {config.hidden_act}{' and sliding windows' if windows else ''}"
        raise EngineFault(
            f"the embedded engine runs {' and '.join(FAMILIES)} decoders with silu and full attention, the model is {kind}: "
            "choose another model, or engine.kind vllm or server"
        )
