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
class Texts:
    """A model without its weights: tokenizer, configuration, and what that makes, without memory."""

    tokenizer: Any
    config: Any
    skeleton: Any

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.skeleton.parameters())


def texts(names: Iterable[str]) -> list[str]:
    """Of a folder's files those that belong to a model and hold no weights."""
    return sorted(name for name in names if "/" not in name and name.endswith(_TEXTS))


def weights_of(folder: Path, names: Iterable[str]) -> list[str]:
    """Of a folder's files those that hold the weights; of these only the index is read. Raises `ModelError` where there are none."""
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


def read_texts(folder: Path, names: Iterable[str]) -> Texts:
    """Tokenizer and configuration of a folder with these files. Raises `ModelError` at the first that cannot be used."""
    from transformers import AutoConfig, AutoTokenizer

    for name in (small := texts(names)):
        _check_pointer(folder / name)
    path = folder / "config.json"
    if path.name not in small:
        raise ModelError(f"{folder}: no config.json, so it is no model folder; correct model.source")
    method = _read(path).get("quantization_config")
    if isinstance(method, dict):
        raise ModelError(
            f"{path}: the weights are quantised ({method.get('quant_method', 'unknown')}), and students learn on weights in 16 bits: "
            "take the model that it was made of (students.*.quantize: 4bit quantises that while training)"
        )
    try:
        config = AutoConfig.from_pretrained(folder)
        skeleton = _skeleton(config)
    except (OSError, ValueError, KeyError, AttributeError, ImportError) as error:
        raise ModelError(
            f"{path}: no text model that transformers knows ({reason(error)}); take another one"
        ) from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise ModelError(f"{folder}: its tokenizer cannot be used ({reason(error)}); take its files anew") from error
    probe = "a b"
    if str(tokenizer.decode(tokenizer(probe)["input_ids"], skip_special_tokens=True)).strip() != probe:
        # Without files some kinds of tokenizer load all the same, and know no text.
        raise ModelError(
            f"{folder}: its tokenizer does not know plain text; take tokenizer.json and its other files anew"
        )
    if tokenizer.chat_template is None:
        raise ModelError(f"{folder}: its tokenizer has no chat template; use an instruct model")
    return Texts(tokenizer, config, skeleton)


def _skeleton(config: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    maker: Any = AutoModelForCausalLM
    with torch.device("meta"):
        return maker.from_config(config)


def check_weights(path: Path) -> None:
    """Raise `ModelError` when a file is no safetensors file, or not as long as its header says."""
    _check_pointer(path)
    size = path.stat().st_size
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(_HEADER_LENGTH), "little")
        header = handle.read(length) if length <= _LONGEST_HEADER else b""
    if len(header) < length <= _LONGEST_HEADER:
        raise ModelError(f"{path}: ends within its header, after {size:,} bytes: it was cut; take it anew")
    try:
        tensors = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"]
        whole = _HEADER_LENGTH + length + max(ends)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(f"{path}: no safetensors file; take it anew") from error
    if size != whole:
        raise ModelError(
            f"{path}: {whole:,} bytes expected by its header, {size:,} found: it was cut or altered; take it anew"
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
