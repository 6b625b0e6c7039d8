"""A model folder that cannot be used is refused in one line, by the stage and by the doctor alike: which file, and what to do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from stages.models.hub import ModelError
from stages.pretrained.obtain import obtain
from stages.pretrained.size import measure

pytest_plugins = ["tiny"]

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 15231233024\n"


@pytest.fixture
def model(tmp_path: Path, tiny_qwen2: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    shutil.copytree(tiny_qwen2, "model")
    return Path("model")


def refused(source: str, because: str) -> None:
    for look in (lambda: obtain(source, None, {}, Path("out"), Path()), lambda: measure(source, None)):
        with pytest.raises(ModelError, match=because) as error:
            look()
        assert "\n" not in str(error.value)
    assert list(Path("out").iterdir()) == []


def pointer(path: Path) -> None:
    path.write_bytes(POINTER)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def of_something_else(path: Path) -> None:
    path.write_bytes(b"<html>" * 100)


def of_no_tensors(path: Path) -> None:
    path.write_bytes((2).to_bytes(8, "little") + b"{}")


@pytest.mark.parametrize(
    ("file", "damage", "because"),
    [
        (
            "model.safetensors",
            pointer,
            r"a pointer of git-LFS in place of the file; run .*`git lfs pull` in its folder",
        ),
        ("tokenizer.json", pointer, r"a pointer of git-LFS in place of the file; run .*`git lfs pull` in its folder"),
        (
            "model.safetensors",
            cut,
            r"[\d,]+ bytes expected by its header, [\d,]+ found: it was cut or altered; take it anew",
        ),
        ("model.safetensors", cut_short, r"ends within its header, after 50 bytes: it was cut; take it anew"),
        ("model.safetensors", emptied, r"no safetensors file; take it anew"),
        ("model.safetensors", of_something_else, r"no safetensors file; take it anew"),
        ("model.safetensors", of_no_tensors, r"no safetensors file; take it anew"),
        ("config.json", cut, r"not readable .*; take it anew"),
    ],
)
def test_a_file_that_is_not_whole_is_named(
    model: Path, file: str, damage: Callable[[Path], None], because: str
) -> None:
    damage(model / file)
    refused("model", rf"^model/{file}: {because}$")


def test_a_tokenizer_that_cannot_be_used_is_named(model: Path) -> None:
    cut(model / "tokenizer.json")
    refused("model", r"^model: its tokenizer cannot be used .*; take its files anew$")


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            r"the weights are quantised \(gptq\).*take the model",
        ),
        ({"model_type": "no_such_family"}, r"no text model that transformers knows \(.*no_such_family"),
        ({"model_type": "vit"}, r"no text model that transformers knows \("),
        ({"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}, r"no text model that transformers knows \("),
    ],
)
def test_a_model_that_students_cannot_learn_on_is_named(model: Path, change: dict[str, Any], because: str) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    (model / "own.py").write_text("raise SystemExit('code of a model was run')", encoding="utf-8")
    refused("model", rf"^model/config\.json: {because}")


def test_a_folder_without_the_tokenizers_files_is_named(model: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).unlink()
    refused("model", r"^model: its tokenizer does not know plain text; take tokenizer\.json and its other files anew$")


def test_a_model_without_a_chat_template_is_named(model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    refused("model", r"^model: its tokenizer has no chat template; use an instruct model$")


@pytest.mark.parametrize(
    ("file", "because"),
    [
        ("pytorch_model.bin", r"model/pytorch_model\.bin: a pickle, which is not loaded"),
        ("adapter_config.json", r"model/adapter_config\.json: this is an adapter; set model\.source to the model"),
        ("notes.md", r"model: no model\.safetensors and no model\.safetensors\.index\.json"),
    ],
)
def test_a_folder_without_safetensors_is_refused(model: Path, file: str, because: str) -> None:
    (model / "model.safetensors").rename(model / file)
    if file.endswith(".json"):
        (model / file).write_text("{}", encoding="utf-8")
    refused("model", f"^{because}")


def shard(model: Path) -> dict[str, str]:
    """Spread the weights over two files; the index of them."""
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    names = sorted(tensors)
    halves = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, of in halves.items():
        save_file({name: tensors[name] for name in of}, model / file, {"format": "pt"})
    index = {name: file for file, of in halves.items() for name in of}
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return index


def test_the_files_that_an_index_names_are_the_weights(model: Path) -> None:
    shard(model)
    save_file(load_file(model / "model-1.safetensors"), model / "consolidated.safetensors")
    obtain("model", None, {}, Path("out"), Path())
    listed = json.loads(Path("out/manifest.json").read_text(encoding="utf-8"))["files"]
    assert [name for name in listed if name.endswith(".safetensors")] == ["model-1.safetensors", "model-2.safetensors"]


def test_a_file_that_an_index_names_must_be_there(model: Path) -> None:
    shard(model)
    (model / "model-2.safetensors").unlink()
    refused("model", r"^model/model-2\.safetensors: no such file, model\.safetensors\.index\.json names it")


def test_an_index_without_files_is_named(model: Path) -> None:
    shard(model)
    (model / "model.safetensors.index.json").write_text("{}")
    refused("model", r"^model/model\.safetensors\.index\.json: has no weight_map")
