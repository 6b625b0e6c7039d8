"""What a model folder must be before anything rests on it: whole safetensors files, in 16 or 32 bits, of a decoder that transformers knows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.models.hub import ModelError, reason

INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
_TEXTS = (".json", ".jinja", ".txt", ".model")  # configuration, tokenizer, chat template
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_POINTER = b"version https://git-lfs"
_HEADER_LENGTH = 8  # bytes in front of a safetensors header, which say how long it is
_LONGEST_HEADER = 100_000_000  # bytes, the format's own limit


@dataclass(frozen=True)
class Inspected:
    """A model folder that can be used: the files with its weights, its tokenizer and configuration, its parameters."""

    weights: list[str]
    tokenizer: Any
    config: Any
    parameters: int


def texts(names: Iterable[str]) -> list[str]:
    """Of a folder's files those that belong to a model and hold no weights."""
    return sorted(name for name in names if "/" not in name and name.endswith(_TEXTS))


def weights(folder: Path, names: Iterable[str]) -> list[str]:
    """Of a folder's files those that hold the weights; the index must be there, and need not be. Raises `ModelError` where there are none."""
    names = set(names)
    if INDEX in names:
        shards = _read(folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ModelError(f"{folder / INDEX}: has no weight_map; take the model's files anew")
        if lacking := sorted(set(shards.values()) - names):
            raise ModelError(f"{folder / lacking[0]}: no such file, {INDEX} names it; take the model's files anew")
        return sorted(set(shards.values()))
    if WEIGHTS in names:
        return [WEIGHTS]
    if adapter := {"adapter_config.json"} & names:
        raise ModelError(f"{folder / adapter.pop()}: this is an adapter; set model.source to the model that it adapts")
    if pickles := sorted(name for name in names if name.endswith(_PICKLES)):
        raise ModelError(
            f"{folder / pickles[0]}: a pickle, which is not loaded, as it may run any code; take the model as safetensors"
        )
    raise ModelError(f"{folder}: no {WEIGHTS} and no {INDEX}, so it is no model folder; correct model.source")


def inspect(folder: Path, names: Iterable[str]) -> Inspected:
    """Look at all files but for the numbers in them. Raises `ModelError` at the first that is not as it must be."""
    names = set(names)
    for name in texts(names):
        _check_pointer(folder / name)
    if "config.json" not in names:
        raise ModelError(f"{folder}: no config.json, so it is no model folder; correct model.source")
    tokenizer, config = _load(folder)
    found = weights(folder, names)
    for name in found:
        check_weights(folder / name)
    return Inspected(found, tokenizer, config, count(config))


def _load(folder: Path) -> tuple[Any, Any]:
    """Its tokenizer and configuration."""
    from transformers import AutoConfig, AutoTokenizer

    method = _read(folder / "config.json").get("quantization_config")
    if method is not None:
        kind = method.get("quant_method", "unknown") if isinstance(method, dict) else "unknown"
        raise ModelError(
            f"{folder / 'config.json'}: the weights are quantised ({kind}), and students learn on weights in 16 bits: take the model that "
            "it was made of (students.*.quantize: 4bit quantises that while training)"
        )
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder / 'config.json'}: transformers cannot use it: {reason(error)}") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise ModelError(f"{folder}: no usable tokenizer: {reason(error)}") from error
    if tokenizer.chat_template is None:
        raise ModelError(f"{folder}: its tokenizer has no chat template; use an instruct model")
    return tokenizer, config


def count(config: Any) -> int:
    """Parameters of a model of this configuration. Raises `ModelError` for one that is no decoder."""
    return sum(parameter.numel() for parameter in skeleton(config).parameters())


def skeleton(config: Any) -> Any:
    """A model of this configuration, made without memory. Raises `ModelError` for one that is no decoder."""
    import torch
    from transformers import AutoModelForCausalLM

    maker: Any = AutoModelForCausalLM
    try:
        with torch.device("meta"):
            return maker.from_config(config)
    except (ValueError, AttributeError, ImportError) as error:
        raise ModelError(
            f"a {config.model_type} model writes no text that can be played with: {reason(error)}"
        ) from error


def check_weights(path: Path) -> None:
    """Raise `ModelError` when a file is no safetensors file, or not as long as its header says."""
    _check_pointer(path)
    size = path.stat().st_size
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(_HEADER_LENGTH), "little")
        header = handle.read(length) if length <= _LONGEST_HEADER else b""
    try:
        tensors = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        ends = []
    whole = _HEADER_LENGTH + length + max(ends, default=0)
    if not ends and len(header) == length:
        raise ModelError(f"{path}: no safetensors file; take it anew")
    if size != whole:
        raise ModelError(
            f"{path}: {size:,} bytes, and more are expected: it was cut; take it anew"
            if not ends
            else f"{path}: {whole:,} bytes expected by its header, {size:,} found: it was cut or altered; take it anew"
        )


def _check_pointer(path: Path) -> None:
    with path.open("rb") as handle:
        if handle.read(len(_POINTER)) == _POINTER:
            raise ModelError(
                f"{path}: a pointer of git-LFS in place of the file; run `git lfs install` and `git lfs pull` in its folder"
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no keys")
        return found
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not readable ({reason(error)}); take it anew") from error
