"""What the doctor finds, without running anything."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from fake_hub import COMMIT, MODEL, ask, hub
from fake_server import KEY, Say, serving
from official_games import goals, write_official
from peft import LoraConfig, get_peft_model
from structure import ROOT
from transformers import AutoModelForCausalLM

from stages.commands import main as command
from stages.commands.doctor import (
    PAPER_TOKENS,
    RATE,
    UNKNOWN_TOKENS,
    Finding,
    _gpu,
    episodes,
    examine,
    tokens_per_episode,
)
from stages.commands.profile import settings_with
from stages.commands.writing import estimate
from stages.core.params import Cell, Settings, load, parse
from stages.pretrained.size import Size, measure

pytest_plugins = ["tiny"]

PARAMS = ROOT / "params.yaml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the settings and profiles and no data, and no network."""
    for file in (PARAMS, ROOT / "dvc.yaml"):
        shutil.copy(file, tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def settings(**changes: Any) -> Settings:
    """The committed settings; `a__b=1` changes `a.b`."""
    values = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *parents, last = key.split("__")
        section = values
        for parent in parents:
            section = section[parent]
        section[last] = value
    return parse(values, "test")


def found(about: str, of: Settings, rate: float | None = None) -> list[Finding]:
    return [finding for finding in examine(of, rate) if finding.about == about]


def test_the_committed_study_has_no_fault() -> None:
    assert [f for f in examine(load(), None) if f.level == "fault"] == []


@pytest.mark.parametrize("missing", ["spacy", "en_core_web_sm"])
def test_what_official_titles_need_is_named(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else object())
    shop = settings(panels__webshop__source="official", panels__webshop__data_dir=str(tmp_path)).panels["webshop"]
    faults = [text for level, text in shop.inspect() if level == "fault"]
    assert any(f"{missing} is missing: pip install spacy; python -m spacy download" in text for text in faults)


@pytest.mark.parametrize("profile", ["paper_7b", "paper_14b"])
def test_a_paper_profile_names_what_is_missing_here(profile: str) -> None:
    study = settings_with(Path("params.yaml"), Path(f"profiles/{profile}.yaml"))
    [shop, *_] = found("WebShop", study)
    assert shop.level == "fault" and "webshop_data lacks items_shuffle.json" in shop.text
    said = [f"python -m stages fetch {env} --profile {profile}" for env in ("alfworld", "webshop")]
    notes = [finding.text for finding in examine(study, None, profile)]
    assert all(any(f"`{each}` says where to get them" in note for note in notes) for each in said)
    [model] = found("model", study)
    assert model.level == "note" and f"{profile[6:-1]} billion parameters, by its name" in model.text
    assert all(found(about, study) for about in ("ALFWorld", "GPU memory", "engine", "GPU", "disk", "cost"))


def test_official_games_are_looked_at_where_they_are(tmp_path: Path) -> None:
    put, heat, cool = (goals(category, 2) for category in ("put", "heat", "cool"))
    splits = {"train": dict.fromkeys([*put, *heat], 1), "valid_seen": {cool[0]: 1}, "valid_unseen": {cool[1]: 1}}
    write_official(tmp_path / "games", splits)
    official = {"data_dir": "games", "train": 2, "dev": 1, "warmup": 1, "shared_goals": "drop", "counts": None}
    study = settings(panels__alfworld__source="official", panels__alfworld__official=official)
    [games] = found("ALFWorld", study)
    assert games.level == "ok" and "1 warmup, 2 train, 1 dev, 1 test, 1 test_seen" in games.text
    few = {**official, "counts": {"train": 3553, "valid_seen": 140, "valid_unseen": 134}}
    [games] = found("ALFWorld", settings(panels__alfworld__source="official", panels__alfworld__official=few))
    assert games.level == "fault" and "3,553 train games expected, 4 found" in games.text


def test_official_files_that_cannot_be_what_their_names_say_are_faults() -> None:
    folder = Path("shop")
    folder.mkdir()
    contents = {"shuffle_1000": b"<html>", "ins_v2_1000": b'{"B01": {', "human_ins": b"[]"}
    for name, content in contents.items():
        (folder / f"items_{name}.json").write_bytes(content)
    study = settings(panels__webshop__source="official", panels__webshop__data_dir="shop")
    said = [finding.text for finding in found("WebShop", study) if finding.level == "fault"]
    assert said[:3] == [
        "shop/items_shuffle_1000.json: a page of HTML in the file's place",
        "shop/items_ins_v2_1000.json: it should end with }: half a download",
        "shop/items_human_ins.json: it should begin with {, and begins with '[]': another file under this name",
    ]
    (folder / "items_human_ins.json").write_bytes(bytes(4_467_013))
    assert "by its size this is items_shuffle_1000.json under another name" in found("WebShop", study)[2].text


def test_an_environment_that_lacks_a_part_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("stages.envs.alfworld.environment.AlfworldEnvironment.step")
    [lacking, games] = found("ALFWorld", load())
    assert lacking.level == "fault" and "AlfworldEnvironment has no step" in lacking.text
    assert games.level == "ok"


def test_a_models_size_is_that_of_its_config(tiny_qwen2: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_qwen2)
    size = measure(str(tiny_qwen2), None)
    assert size.parameters == sum(p.numel() for p in model.parameters())
    assert size.kv_bytes == 2 * 2 * model.config.num_hidden_layers * model.config.num_key_value_heads * 12
    adapter = get_peft_model(model, LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert 3 * size.rank_bytes == 2 * adapter.get_nb_trainable_parameters()[0]
    assert size.lacking == 0
    [finding] = found("model", settings(model__source=str(tiny_qwen2)))
    assert finding.level == "ok"


def test_a_model_that_cannot_be_used_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    [finding] = found("model", settings(model__source="empty"))
    assert finding.level == "fault" and "empty: no config.json, so it is no model folder" in finding.text


def test_weights_that_stay_where_they_are_are_not_counted(
    tmp_path: Path, tiny_qwen2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.commands.doctor.GB", 1.0)

    def needed(**changes: Any) -> float:
        [disk] = found("disk", settings(students__webshop__lora__r=8, **changes))
        return float(disk.text.split()[0]) - 2  # bytes, without what is allowed for data

    size = measure(str(tiny_qwen2), None)
    students = 3 * (16 + 8) * 2 * size.rank_bytes  # in the folder, DVC's cache and MLflow; two arms
    other = {"model__source": str(tiny_qwen2)}
    assert needed(**other, warmup__enabled=False) == students
    assert needed(**other) == students + 2 * 2 * size.parameters
    with hub(tiny_qwen2, tmp_path / "cache", monkeypatch):
        weights = (tiny_qwen2 / "model.safetensors").stat().st_size
        assert needed(model__source=MODEL, warmup__enabled=False) == students + weights
        [model] = found("model", settings(model__source=MODEL))
        assert f"pin model.revision ({COMMIT} now)" in model.text


def test_a_hubs_cache_on_another_disk_is_a_line_of_its_own(
    tmp_path: Path, tiny_qwen2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub(tiny_qwen2, Path("/proc/self"), monkeypatch):
        monkeypatch.setattr("stages.commands.doctor.measure", lambda *_: Size(7e9, 1, 1, lacking=15e9))
        study = settings(model__source=MODEL, warmup__enabled=False)
        [cache], [disk] = found("hub's cache", study), found("disk", study)
    assert "15.0 GB needed (the model, once), 0.0 GB free" in cache.text and cache.level == "fault"
    assert disk.text.startswith("2.0 GB needed (students, data, and their copies)")


def test_a_hub_that_cannot_be_reached_is_one_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask("http://127.0.0.1:9", tmp_path / "cache", monkeypatch)
    begin = time.monotonic()
    [model], [disk] = found("model", study := settings(model__source="some/Model-7B")), found("disk", study)
    assert model.level == "note" and "the hub at http://127.0.0.1:9 cannot be reached" in model.text
    assert "\n" not in model.text and model.text.endswith("Taken for 7 billion parameters, by its name")
    assert disk.level in ("ok", "fault") and time.monotonic() - begin < 20


def test_a_model_without_a_chat_template_is_a_fault(tmp_path: Path, tiny_qwen2: Path) -> None:
    shutil.copytree(tiny_qwen2, tmp_path / "mute")
    (tmp_path / "mute" / "chat_template.jinja").unlink()
    [finding] = found("model", settings(model__source="mute"))
    assert finding.level == "fault" and "chat template" in finding.text


def test_what_does_not_fit_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.commands.doctor._available", lambda: 1e6)
    [memory] = found("memory", load())
    assert memory.level == "fault" and "0.0 GB free" in memory.text


@pytest.mark.parametrize(
    ("number", "gigabytes", "tensor_parallel", "level", "said"),
    [
        (1, 24, 1, "ok", "0.3 GB for a student; not counted: activations"),
        (1, 15, 1, "fault", "vLLM may take 13.5 GB, and needs 14.0 GB for weights, 0.9 GB for an episode"),
        (1, 16.8, 1, "fault", "may take 15.1 GB"),  # without a student it would do
        (2, 15, 2, "ok", "2 x H, 15 GB each"),
        (1, 24, 2, "fault", "engine.vllm.tensor_parallel is 2"),
    ],
)
def test_a_gpu_too_small_for_the_profile_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, number: int, gigabytes: float, tensor_parallel: int, level: str, said: str
) -> None:
    card = SimpleNamespace(name="H", total_memory=gigabytes * 10**9)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: number)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: card)
    vllm = settings(engine__vllm={"gpu_memory": 0.9, "tensor_parallel": tensor_parallel}).engine.vllm
    finding = _gpu(14e9, 16384 * 57344, 0.3e9, vllm)
    assert finding.level == level and said in finding.text


def test_every_episode_is_counted() -> None:
    study = load()
    sizes = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))["panels"]["alfworld"]["sizes"]
    train, dev, test = (sum(sizes[name].values()) for name in ("train", "dev", "test"))
    assert episodes(study, study.axes.cells[0]) == 2 * train + 5 * (dev + test)
    limited = settings(limit={"train": 5, "dev": None, "test": 7})
    assert episodes(limited, limited.axes.cells[0]) == 2 * 5 + 5 * (dev + 7)
    paper = settings_with(Path("params.yaml"), Path("profiles/paper_7b.yaml"))
    assert episodes(paper, paper.axes.cells[0]) == 2 * 1200 + 6 * (120 + 134 + 140)


def test_a_launched_training_is_held_against_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("training", load()) == []
    sharded = settings_with(Path("params.yaml"), Path("profiles/fsdp.yaml"))
    [training] = found("training", sharded)
    assert training.level == "fault" and "4 GPUs expected (FSDP, one a process), 0 found" in training.text
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    [training] = found("training", sharded)
    assert training.level == "ok" and "lessons a step: 8 on alfworld, 8 on webshop" in training.text
    [training] = found("training", load())
    assert training.level == "note" and "one of 4 GPUs" in training.text


def test_the_cost_says_what_it_rests_on(tmp_path: Path) -> None:
    study = load()
    number = {cell.env: episodes(study, cell) for cell in study.axes.cells}
    [cost] = found("cost", study)
    assert f"{RATE:,.0f} computed tokens a second (an assumption" in cost.text
    total = number["alfworld"] * PAPER_TOKENS["alfworld", "react"] + number["webshop"] * PAPER_TOKENS["webshop", "act"]
    assert f"{total / 1e6:,.1f} million tokens billed" in cost.text
    [cost] = found("cost", study, rate=total / 36_000)
    assert "10.0 hours" in cost.text and "as given" in cost.text

    new = settings()
    turns = new.runner.model_copy(update={"max_turns": {**new.runner.max_turns, "maze": 9}})
    new = new.model_copy(update={"runner": turns})
    assert tokens_per_episode(new, Cell("maze_react")) == (
        UNKNOWN_TOKENS,
        1.0,
        "an assumption, the paper does not have it; at most 9 turns",
    )

    (tmp_path / "data" / "timing").mkdir(parents=True)
    for name, run in {
        "whole": {"resumed": 0, "seconds": 10.0, "computed_tokens": 5000},
        "resumed": {"resumed": 3, "seconds": 1.0, "computed_tokens": 5000},
    }.items():
        (tmp_path / "data" / "timing" / f"{name}.json").write_text(json.dumps(run))
    [cost] = found("cost", study)
    assert "500 computed tokens a second (as in the last run)" in cost.text


def test_a_server_is_asked_what_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY", raising=False)
    with serving() as server:
        study = settings(engine__kind="server", engine__server=server.settings().model_dump())
        server.serve_models("tiny")
        [key], [engine], [students] = (found(about, study) for about in ("key", "engine", "students"))
        assert (key.level, engine.level, students.level) == ("note", "ok", "note")
        assert "TEST_KEY is not set" in key.text
        assert engine.text == f"server:tiny at {server.url}; other models there: none"
        assert students.text.endswith(
            "alfworld_react_sft_s0, alfworld_react_distilled_s0, webshop_act_sft_s0, webshop_act_distilled_s0"
        )
        assert not found("GPU memory", study) and not found("GPU", study)

        monkeypatch.setenv("TEST_KEY", KEY)
        server.serve_models("alfworld_react_sft_s0", "tiny")
        [engine] = found("engine", study)
        assert engine.level == "fault" and "which model? it serves alfworld_react_sft_s0, tiny" in engine.text
        named = settings(engine__kind="server", engine__server=server.settings(model="tiny").model_dump())
        [key], [engine], [students] = (found(about, named) for about in ("key", "engine", "students"))
        assert "TEST_KEY is set" in key.text and KEY not in key.text
        assert engine.text.endswith("other models there: alfworld_react_sft_s0")
        assert "alfworld_react_sft_s0" not in students.text
        server.models = Say(503, "loading")
        [engine] = found("engine", named)
        assert engine.level == "fault" and "try 1: HTTP 503 loading" in engine.text
    [engine] = found("engine", named)
    assert engine.level == "fault" and f"no server at {server.url}" in engine.text


def test_the_command_fails_on_a_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["stages", "doctor"])
    assert command.main() == 0
    assert "ok    settings" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["stages", "doctor", "--profile", "paper_7b"])
    assert command.main() == 1
    assert "fault WebShop" in capsys.readouterr().out


def test_a_local_executor_needs_no_words() -> None:
    assert found("executor", settings()) == []


@pytest.mark.parametrize(
    ("address", "level", "words"),
    [
        ("", "ok", "2 workers on a Ray of this machine's own, as RAY_ADDRESS is not set"),
        ("127.0.0.1:0", "fault", "no Ray cluster answers at RAY_ADDRESS 127.0.0.1:0"),
        ("ray://127.0.0.1:10001", "fault", "expected host:port of a cluster's head"),
    ],
)
def test_rays_cluster_is_looked_for(monkeypatch: pytest.MonkeyPatch, address: str, level: str, words: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    [finding] = found("executor", settings(runner__executor="ray"))
    assert finding.level == level and words in finding.text


def test_the_model_that_writes_hints_is_asked_for_and_its_tokens_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("writer", settings()) == [] and not any("hints of about" in f.text for f in examine(settings(), None))
    monkeypatch.delenv("TEST_KEY", raising=False)
    with serving() as server:
        at = {"hints__writer": "llm", "hints__llm__url": server.url, "hints__llm__key_variable": "TEST_KEY"}
        prices = {"prompt": 2.5, "reply": 10.0}
        study = settings(**at, hints__llm__prices=prices)
        [key], [writer] = found("writer's key", study), found("writer", study)
        assert "TEST_KEY is not set" in key.text and (writer.level, writer.text) == ("ok", f"tiny at {server.url}")
        [gone] = found("writer", settings(**at, hints__llm__model="gpt"))
        assert gone.level == "fault" and "does not serve 'gpt'; its models: tiny. Give hints.llm.model" in gone.text

        _, text = estimate(study, study.axes.cells[0], 10_000, same_model=True)
        assert text == "hints of about 32 failures, 2,600 tokens each by llm (a rough figure), at most 0.35 dollars"
        Path("metrics").mkdir()
        row = {"env": "alfworld", "agent": "react", "episodes": 96, "failures": 48, "tokens": {"write": 48_000}}
        Path("metrics/funnel.json").write_text(json.dumps({"rows": [row]}))
        folder = Path("data/hints/alfworld_react")
        folder.mkdir(parents=True)
        for wrote, same_model, tokens in (
            ("llm", True, 48_000),
            ("self", True, 48 * 2_600),
            ("llm", False, 32 * 2_600),
        ):
            (folder / "writer.json").write_text(json.dumps({"writer": wrote}))
            known = estimate(study, study.axes.cells[0], 10_000, same_model=same_model)[0]
            assert known == tokens if same_model else abs(known - tokens) < 2_600, (wrote, same_model)
    [writer] = found("writer", study)
    assert writer.level == "fault" and "change hints.llm.url" in writer.text
