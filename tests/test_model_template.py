"""`model.template` on its way from the settings to prompts and records; templates that are refused before anything is played."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trl

from stages import base as base_stage
from stages import source as source_stage
from stages.commands.doctor import Finding, examine
from stages.core.params import Settings, SettingsError, load, parse
from stages.models import manifest
from stages.models.chat import ChatError, open_chat
from stages.models.identity import template_of
from stages.pretrained.obtain import obtain
from stages.runner import study

pytest_plugins = ["tiny"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def with_template(model: Path, folder: Path, template: str) -> Path:
    """The model with another chat template: a family's that trl ships, or the text itself."""
    shutil.copytree(model, folder)
    shipped = Path(trl.__file__).parent / f"chat_templates/{template}.jinja"
    text = shipped.read_text(encoding="utf-8") if "{" not in template else template
    (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
    return folder


def settings(source: Path, template: dict[str, Any], **engine: Any) -> Settings:
    values = load().model_dump()
    values["model"] = {"source": str(source), "revision": None, "template": template}
    values["engine"] |= engine
    values["warmup"]["enabled"] = False
    values["agent"]["shots"] = {"alfworld": 0, "webshop": 0}
    return parse(values, "test")


def findings(of: Settings) -> Iterator[Finding]:
    return (finding for finding in examine(of, None) if finding.about == "template")


def test_a_setting_that_is_no_plain_value_is_refused() -> None:
    values = load().model_dump()
    values["model"]["template"] = {"day": object()}
    with pytest.raises(SettingsError, match=r"model\.template"):
        parse(values, "test")


def test_the_arguments_stand_in_the_records_and_reach_the_prompts(
    tiny_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_template(tiny_qwen2, tmp_path / "qwen", "qwen3")
    study_settings = settings(folder, {"enable_thinking": False})
    monkeypatch.chdir(tmp_path)
    Path("data/base/warmup").mkdir(parents=True)
    for module in (source_stage, base_stage, manifest):
        monkeypatch.setattr(module, "load", lambda: study_settings)
    assert "renders earlier turns anew each turn" in source_stage.run()
    base_stage.run()
    for record in (Path("data/base/source.json"), Path("data/base/model/identity.json")):
        assert template_of(record) == {"enable_thinking": False}
    assert study.model_id(None).startswith("qwen (enable_thinking=false)@")
    for chat in (
        open_chat(Path("data/base/model")),
        open_chat(Path("data/base/source"), Path("data/base/source.json")),
    ):
        assert not chat.thinks


def test_without_arguments_the_records_are_as_ever(tiny_qwen2: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    identity, _ = obtain(str(tiny_qwen2), None, {}, tmp_path / "out", tmp_path)
    assert "template" not in identity


def test_source_refuses_a_template_before_the_weights_are_had(tiny_qwen2: Path, tmp_path: Path) -> None:
    folder = with_template(tiny_qwen2, tmp_path / "model", "{{ raise_exception('No.') }}")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ChatError, match=r"chat template fails: No\."):
        obtain(str(folder), None, {}, tmp_path / "out", tmp_path)


def test_the_doctor_says_how_prompts_grow(tiny_qwen2: Path, tmp_path: Path) -> None:
    [finding] = findings(settings(tiny_qwen2, {}))
    assert finding.level == "ok" and finding.text.startswith("its chat template appends: ")
    [finding] = findings(settings(with_template(tiny_qwen2, tmp_path / "model", "glm4moe"), {}))
    assert finding.level == "ok" and "renders earlier turns anew each turn" in finding.text


@pytest.mark.parametrize(
    ("template", "arguments", "fault"),
    [
        ("qwen3", {"enable_thinkin": False}, "names 'enable_thinkin', which the model's chat template does not use"),
        ("{{ messages[0].nothing.at_all }}", {}, "chat template fails: "),
        ("{{ messages[0].content }}", {}, "leaves texts out, such as 'Probed opening.'"),
        ("gptoss", {}, "writes today's date into prompts"),
    ],
    ids=["unknown argument", "raises", "forgetful", "date"],
)
def test_the_doctor_refuses_a_template_that_cannot_work(
    tiny_qwen2: Path, tmp_path: Path, template: str, arguments: dict[str, Any], fault: str
) -> None:
    [finding] = findings(settings(with_template(tiny_qwen2, tmp_path / "model", template), arguments))
    assert finding.level == "fault" and fault in finding.text and "\n" not in finding.text


def test_the_doctor_refuses_a_warm_up_where_every_reply_begins_with_a_thought(tiny_qwen2: Path, tmp_path: Path) -> None:
    folder = with_template(tiny_qwen2, tmp_path / "model", "qwen3_5_think")
    values = settings(folder, {}).model_dump()
    values["warmup"]["enabled"] = True
    [_, finding] = findings(parse(values, "test"))
    assert finding.level == "fault" and "{enable_thinking: false}" in finding.text
    values["model"]["template"] = {"enable_thinking": False}
    [finding] = findings(parse(values, "test"))
    assert finding.level == "ok"


def test_the_doctor_says_what_a_server_must_do(tiny_qwen2: Path, tmp_path: Path) -> None:
    folder = with_template(tiny_qwen2, tmp_path / "model", "llama3_2")
    [_, clock, ends] = findings(settings(folder, {"strftime_now": "2026-01-31"}, kind="server"))
    assert clock.level == "fault" and "asks its own clock" in clock.text
    assert ends.level == "note" and "must end replies at <|im_end|>" in ends.text


def test_lessons_and_engines_refuse_a_model_without_template(tiny_qwen2: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_qwen2, tmp_path / "mute")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ChatError, match="no chat template"):
        open_chat(folder)
    with pytest.raises(ChatError, match="no usable tokenizer"):
        open_chat(tmp_path)
    (folder / "identity.json").write_text(json.dumps({"source": "mute"}))
    assert template_of(folder / "identity.json") == {}
