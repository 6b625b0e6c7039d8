"""Proof that an engine plays a student of its own base, and not the base in the student's place."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from stages.core.records import Message
from stages.engines.base import EngineFault

PROMPT = (Message("user", "You are in the middle of a room. Looking around you, you see a box 1. What do you do?"),)
ALIKE = 1e-4  # nats: the same weights give the same figures, but for rounding


def prove(student: str, base: Sequence[float], own: Sequence[float]) -> None:
    """Compare log-probabilities of the same tokens by the base and by the student, in nats. Raises `EngineFault` when none differs."""
    if max(abs(a - b) for a, b in zip(base, own, strict=True)) <= ALIKE:
        raise EngineFault(
            f"{student} answers as the base does, to the last of {len(base)} tokens: the engine does not apply the adapter, or the "
            "adapter is empty; run `dvc repro students`, and see that the engine is given what that writes"
        )


def check_base(base: Path, adapter: Path) -> None:
    """Raise `EngineFault` for an adapter that is of other sizes than the model in the folder `base`, or that cannot be read."""
    from safetensors import SafetensorError, safe_open

    path = adapter / "adapter_model.safetensors"
    try:
        config = json.loads((base / "config.json").read_text(encoding="utf-8"))
        with safe_open(path, "numpy") as file:
            names = [name for name in file.keys() if ".lora_A." in name]  # noqa: SIM118 (no dict)
            widths = {file.get_slice(name).get_shape()[1] for name in names if ".q_proj." in name}
    except (OSError, ValueError, SafetensorError) as error:
        raise EngineFault(f"cannot read {path} beside {base}/config.json: {error}; run `dvc repro students`") from error
    config = config.get("text_config", config)
    layers = {int(found[1]) for name in names if (found := re.search(r"\.layers\.(\d+)\.", name))}
    has, wanted = (len(layers), sorted(widths)), (config["num_hidden_layers"], [config["hidden_size"]])
    if has != wanted:
        raise EngineFault(
            f"{adapter} was trained on another base than {base}: it has {has[0]} layers and takes {has[1]} numbers a token, the base "
            f"{wanted[0]} and {wanted[1]}; run `dvc repro students`"
        )
