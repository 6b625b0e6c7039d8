"""How large a model is, found out from its configuration, without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.models.hub import fetch, in_cache, look_up
from stages.models.manifest import file_names, local_folder
from stages.pretrained.folder import Texts, check_weights, read_texts, texts, weights_of
from stages.pretrained.obtain import EMBEDDED

_RANK_SHARE = 7e-4  # bytes of an adapter a unit of rank, by the model's parameters: as of Qwen2.5-7B


@dataclass(frozen=True)
class Size:
    """`parameters`; `kv_bytes`, of keys and values a token in 16 bits (0: unknown); `rank_bytes`, of an adapter in 16 bits a unit of its rank;
    `lacking`, bytes of weights that are not on this machine yet; `commit`, on the hub."""

    parameters: float
    kv_bytes: int
    rank_bytes: float
    lacking: float = 0
    commit: str = ""


def measure(source: str, revision: str | None) -> Size:
    """Of the model that `model.source` names. Raises `ModelError` when it cannot be used, `Unreachable` when the hub is."""
    if source == EMBEDDED:
        return Size(134_515_008, 23_040, 610_560)
    local = local_folder(source)
    if local.is_dir():
        names = file_names(local)
        model = read_texts(local, names)
        for name in weights_of(local, names):
            check_weights(local / name)
        return _size(model, 0, "")
    listing = look_up(source, revision)
    small = texts(listing.files)
    folder = fetch(source, listing.commit, small)
    model = read_texts(folder, small)
    weights = weights_of(folder, listing.files)
    lacking = sum(listing.files[name] for name in weights if not in_cache(source, listing.commit, name))
    return _size(model, lacking, listing.commit)


def guess(parameters: float) -> Size:
    """Of a model in 16 bits of which only the number of parameters is known, and nothing is here."""
    return Size(parameters, 0, _RANK_SHARE * parameters, 2 * parameters)


def _size(model: Texts, lacking: float, commit: str) -> Size:
    from torch import nn

    config, head = model.config, model.skeleton.get_output_embeddings()
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kv_bytes = 4 * config.num_hidden_layers * config.num_key_value_heads * dim
    maps: list[Any] = [part for part in model.skeleton.modules() if isinstance(part, nn.Linear) and part is not head]
    rank_bytes = sum(2 * (part.in_features + part.out_features) for part in maps)
    return Size(model.parameters, kv_bytes, rank_bytes, lacking, commit)
