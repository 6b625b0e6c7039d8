"""From a failure to a bank, link by link: what counts as the right step, and the whole measure on a tiny model that writes no hints."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import hint_links
import polars as pl
import pytest
from common import faults_in_one_line
from hint_links import states_right_step, steps_of
from structure import ROOT
from tiny import save_model
from transformers import LlamaConfig, LlamaForCausalLM

from stages.core.params import Cell, Settings, load
from stages.core.records import Episode, read, write
from stages.envs.alfworld import TASK_TYPE
from stages.envs.base import Task
from stages.envs.panel import write_panels
from stages.hinting.alfworld import RULES
from stages.hinting.base import Failure
from stages.hinting.writers import self as itself
from stages.panelling.alfworld.generator import generate_game, write_game
from stages.runner.study import Runner, System

CELL = Cell("alfworld_react")
HEAT = {("heat", "microwave")}
PANELS = Path("data/panels/alfworld")


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("To heat {object}: take it, go to {microwave}, then 'heat {object} with {microwave}'.", True),
        ("Use the Microwave to HEAT {object} before you put it down.", True),
        ("To heat {object}: go to {stoveburner}, then 'heat {object} with {stoveburner}'.", False),
        ("To cool {object}: take it, go to {fridge}, then 'cool {object} with {fridge}'.", False),
        ("Never heat {object} with {microwave}.", False),
        ("Open the microwaves and preheat.", False),
    ],
)
def test_a_hint_states_the_step_that_it_names_whole(text: str, right: bool) -> None:
    assert states_right_step(text, HEAT) == right
    assert not states_right_step(text, set())


def test_the_right_step_is_the_tool_s_or_a_group_that_the_goal_wants(tmp_path: Path) -> None:
    tasks = [Task(skill, "alfworld", "train", skill, "", {}) for skill in ("heat", "cool", "examine", "put")]
    steps = steps_of("alfworld", tmp_path, tasks)
    assert steps == {"heat": HEAT, "cool": {("cool", "fridge")}, "examine": {("use", "lamp")}}
    product = {"asin": ["B1"], "groups": [["color", "fit type", "size"]], "values": [[["red"], ["slim"], ["8", "9"]]]}
    pl.DataFrame(product).write_parquet(tmp_path / "catalogue.parquet")
    spec = {"catalogue": "catalogue.parquet", "asin": "B1"}
    named = {"one": ["slim", "9"], "none": []}
    shop = [Task(name, "webshop", "train", "fashion", "", spec | {"options": o}) for name, o in named.items()]
    steps = steps_of("webshop", tmp_path, shop)
    assert steps == {"one": {("click", "fit type"), ("click", "size")}}
    assert states_right_step("Before click[Buy Now], click the {fit type} that the instruction names.", steps["one"])
    assert not states_right_step("Before click[Buy Now], click the {color} that the instruction names.", steps["one"])


@pytest.mark.parametrize("lamp", ["desklamp", "floorlamp", "lamp"])
def test_a_hint_for_a_task_to_examine_names_either_lamp(lamp: str) -> None:
    assert states_right_step(f"Take {{object}}, go to {{desk}}, then 'use {{{lamp}}}'.", {("use", "lamp")})
    assert not states_right_step(f"Take {{object}}, go to {{desk}}, then take {{{lamp}}}.", {("use", "lamp")})


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project with a tiny base model, which has played the train panel: two heating games and one that asks for no tool."""
    monkeypatch.chdir(tmp_path)
    base = save_model(Path("data/base/model"), LlamaConfig, LlamaForCausalLM, max_position_embeddings=16384)
    (base / "identity.json").write_text(json.dumps({"source": "tiny", "weights_sha256": "ab" * 32}))
    panels: dict[str, list[Task]] = {"train": [], "dev": []}
    PANELS.mkdir(parents=True)
    for name, category, index in (("train", "heat", 0), ("train", "heat", 1), ("train", "put", 0), ("dev", "heat", 0)):
        game = generate_game(3, name, TASK_TYPE[category], index, unseen=name == "dev")
        sha256 = hashlib.sha256(write_game(PANELS, game).read_bytes()).hexdigest()
        spec = {"game": str(game.path), "sha256": sha256, "object": "Bread", "receptacle": "Desk", "scene": "1"}
        spec["task_type"] = TASK_TYPE[category]
        panels[name].append(Task(f"{name}-{category}-{index}", "alfworld", name, category, game.sentence, spec))
    write_panels(PANELS, "alfworld", "generated", panels)
    study = load(ROOT / "params.yaml")
    engine = study.engine.model_copy(update={"slots": 2, "max_new_tokens": 6, "context": 12000, "dtype": "float32"})
    runner = study.runner.model_copy(update={"max_turns": {"alfworld": 2, "webshop": 2}})
    llm = study.hints.llm.model_copy(update={"max_tokens": 12})
    hints = study.hints.model_copy(update={"llm": llm})
    study = study.model_copy(update={"engine": engine, "runner": runner, "hints": hints})
    runs, _ = Runner(study, CELL, System("base")).play("train")
    write(Path("data/rollouts") / CELL / "episodes.parquet", Episode, runs["train"])
    return study


def test_each_link_is_counted_for_each_writer(settings: Settings) -> None:
    played = read(Path("data/rollouts") / CELL / "episodes.parquet", Episode)
    assert not any(e.success for e in played)
    before = {path for path in Path("data").rglob("*") if path.is_file()}
    rules, own = hint_links.measure(settings, CELL, ["rules", "self"])
    assert (rules["writer"], rules["failures"], rules["failures_with_right_hint"]) == ("rules", 2, 2)
    assert rules["answers_read"] is None and rules["hints_right"] == 2 <= rules["hints_passed"] <= rules["hints"]
    assert own == {**dict.fromkeys(own, 0), "writer": "self", "failures": 2}
    assert {path for path in Path("data").rglob("*") if path.is_file()} == before


def test_the_embedded_engine_s_broken_answers_are_mended_once_and_turned_away(settings: Settings) -> None:
    played = read(Path("data/rollouts") / CELL / "episodes.parquet", Episode)
    found = itself.write([Failure(episode) for episode in played], RULES, settings)
    assert found.hints == [] and [a.calls for a in found.answers] == [2, 2, 2]
    assert [r.reason for r in found.rejected] == [a.outcome for a in found.answers]
    assert {a.outcome for a in found.answers} <= {"cut", "unreadable"}
    assert all(a.reply_tokens <= 2 * settings.hints.llm.max_tokens and a.prompt_tokens > 1000 for a in found.answers)
    few = settings.hints.model_copy(update={"self_turns": {"alfworld": 1}})
    less = itself.write([Failure(played[0])], RULES, settings.model_copy(update={"hints": few}))
    assert (found.answers[0].elided, less.answers[0].elided) == (0, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--writers", "foo"], "hint_links: there is no hint writer 'foo' in stages/hinting/writers"),
        (["--cells", "alfworld_act"], "hint_links: axes.cell in params.yaml has no 'alfworld_act'"),
        ([], "hint_links: data/panels/"),
    ],
)
def test_what_is_missing_is_named_in_a_line(
    options: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["benchmarks/hint_links.py", *options])
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(hint_links, "base_model", lambda: None)
    assert faults_in_one_line(hint_links.main) == 1
    found = capsys.readouterr().err
    assert found.startswith(said) and found.count("\n") == 1
