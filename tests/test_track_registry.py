"""Students in MLflow's registry: what a version says of itself, which one is the champion, and how it comes back."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from finished_pipeline import ADAPTER, STUDENT, write_results, write_student
from tracked import DISTILLED, MODEL, champion, client, named

from stages import track
from stages.tracking import models  # before mlflow: it sets what mlflow reads at import
from stages.tracking import store as stores

from mlflow.artifacts import download_artifacts  # isort: skip


def test_a_version_says_what_it_is(finished: Path) -> None:
    assert track.main() == 0
    version = client(finished).get_model_version_by_alias(MODEL, "champion")
    student = client(finished).get_run(named(finished)[DISTILLED].info.run_id)
    assert version.run_id == student.info.run_id
    assert [f"models:/{output.model_id}" for output in student.inputs.model_inputs] == [version.source]
    assert student.data.tags["model version"] == str(version.version)
    tags = {"dvc.md5": "s1.dir", "arm": "distilled", "seed": "0", "base_model": "tiny", "dev.success": "0.5"}
    assert {**tags, "dev": "50.0 % of 20 tasks", "test": "75.0 % of 20 tasks"}.items() <= version.tags.items()
    for part in (
        "LoRA adapter for alfworld react, seed 0",
        "75.0 % (38\N{EN DASH}100)",
        "no benchmark numbers",
        "PeftModel",
        "stages play",
    ):
        assert part in version.description
    assert f"models:/{MODEL}/1" in version.description
    assert "champion" in client(finished).get_registered_model(MODEL).description


@pytest.mark.parametrize("address", [f"models:/{MODEL}@champion", f"models:/{MODEL}/latest", f"models:/{MODEL}/1"])
def test_a_registered_student_is_fetched_with_what_it_is_for(
    finished: Path, address: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert track.main() == 0
    student = models.fetch(address, tmp_path_factory.mktemp("fetched"))
    assert {path.name: path.read_bytes() for path in student.folder.iterdir()} == ADAPTER
    assert (student.env, student.agent, student.arm, student.seed, student.base) == (
        "alfworld",
        "react",
        "distilled",
        0,
        "tiny",
    )


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hintdistill", "expected models:/NAME@champion"),
        ("models:/nobody@champion", f"whose registered models are: {MODEL}"),
        (f"models:/{MODEL}/9", "version=9"),
        ("models:/nobody/latest", f"whose registered models are: {MODEL}"),
    ],
)
def test_an_unknown_model_is_named_with_those_there_are(
    finished: Path, address: str, message: str, tmp_path: Path
) -> None:
    assert track.main() == 0
    with pytest.raises(models.ModelError, match=re.escape(message)):
        models.fetch(address, tmp_path)


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_models_are_found_and_made_in_a_folder_that_was_moved_or_copied(
    finished: Path, how: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert track.main() == 0
    there = tmp_path_factory.mktemp("there") / "project"
    how(finished, there)
    monkeypatch.chdir(there)
    write_student(there, {**ADAPTER, "adapter_model.safetensors": b"second"})
    write_results(there, 0.6, student_md5="s2.dir")
    assert track.main() == 0
    fetched = [models.fetch(f"models:/{MODEL}/{v}", tmp_path_factory.mktemp("v")).folder for v in (1, 2)]
    assert [(f / "adapter_model.safetensors").read_bytes() for f in fetched] == [
        ADAPTER["adapter_model.safetensors"],
        b"second",
    ]
    assert not (finished / stores.ARTIFACTS).exists() or not list((finished / stores.ARTIFACTS).rglob("*second*"))
    with closing(sqlite3.connect(there / stores.DATABASE)) as database:
        assert (finished / stores.ARTIFACTS).as_uri() not in "\n".join(database.iterdump())


def test_alias_moves_only_to_a_strictly_better_student_of_the_same_panel(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[tuple[float, str, str]] = [
        (0.5, "d" * 64, "1"),  # the first one
        (0.5, "d" * 64, "1"),  # as good: stays
        (0.4, "d" * 64, "1"),
        (0.9, "e" * 64, "1"),  # another panel: no comparison
        (0.6, "d" * 64, "5"),
    ]
    for number, (dev, panel, expected) in enumerate(steps, start=1):
        write_student(finished, {**ADAPTER, "adapter_model.safetensors": bytes([number])})
        write_results(finished, dev, panel, f"s{number}.dir")
        assert track.main() == 0
        assert champion(finished) == expected, number
        assert ("another dev panel" in capsys.readouterr().out) == (number == 4)
    assert len(client(finished).search_model_versions()) == 5


@pytest.mark.slow
def test_adapter_comes_back_from_the_registry_as_peft_reads_it(
    finished: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    def base() -> Any:
        torch.manual_seed(0)
        size = LlamaConfig(
            vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
        )
        return LlamaForCausalLM(size)

    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    student = get_peft_model(base(), lora).eval()
    adapter = finished / "data" / "students" / STUDENT / "adapter"
    student.save_pretrained(str(adapter))
    assert track.main() == 0

    copy = Path(tmp_path_factory.mktemp("copy"))
    uri = f"sqlite:///{finished / stores.DATABASE}"
    folder = Path(download_artifacts(f"models:/{MODEL}@champion", dst_path=str(copy), tracking_uri=uri))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files == {path.name: path.read_bytes() for path in adapter.iterdir()}
    tokens = torch.arange(8).unsqueeze(0)
    with torch.no_grad():
        reloaded = PeftModel.from_pretrained(base(), str(folder)).eval()(tokens).logits
        assert torch.equal(reloaded, student(tokens).logits)
        assert not torch.allclose(reloaded, base().eval()(tokens).logits)
