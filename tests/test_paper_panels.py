"""The paper's panels: official goals by their places, official games with and without shared goals, and what panels have in common."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from official_games import goals
from structure import ROOT
from test_alfworld_official import many, official
from test_params import VALUES, changed, fault

from stages import metrics
from stages import panels as stage
from stages.commands.profile import settings_with
from stages.core import plugins
from stages.core.params import parse
from stages.envs.base import Task
from stages.envs.panel import PanelError, load_panel, panel_source
from stages.envs.webshop.records import Goal
from stages.panelling.alfworld.official import draw
from stages.panelling.overlaps import overlaps
from stages.panelling.webshop.goals import human_goals
from stages.panelling.webshop.panels import build_panels, read_data
from stages.panelling.webshop.settings import WebshopPanels

WEBSHOP = plugins.environment("webshop")
NUMBERS = {"train": 1200, "dev": 100, "test": 100}
STARTS = {"test": 0, "dev": 500, "train": 1500}  # WebShop's splits of the human goals
PAPER = ("paper_7b", "paper_14b")


def settings(**changes: Any) -> WebshopPanels:
    """The generated shop, which has 4,000 goals in the official schema, with official panels."""
    return WebshopPanels.model_validate({**VALUES["panels"]["webshop"], "choose": "official", "sizes": {}, **changes})


@pytest.fixture(scope="module")
def ordered() -> list[Goal]:
    """The generated shop's goals in the official order."""
    return human_goals(read_data(settings()), settings().seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage makes of them."""
    root = tmp_path_factory.mktemp("panels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "load", lambda: SimpleNamespace(panels={"webshop": settings()}, limit={}))
        assert stage.run("webshop", root) == "webshop: train 1200, dev 100, test 100"
    return root / "webshop"


@pytest.mark.parametrize("panel", NUMBERS)
def test_official_panels_are_the_first_goals_of_each_official_split(
    folder: Path, ordered: list[Goal], panel: str
) -> None:
    tasks, _ = load_panel(folder, panel)
    expected = ordered[STARTS[panel] : STARTS[panel] + NUMBERS[panel]]
    assert [(t.spec["asin"], t.goal) for t in tasks] == [(g.asin, g.instruction) for g in expected]
    assert [tuple(t.spec["attributes"]) for t in tasks] == [g.attributes for g in expected]
    assert [t.spec["cap"] for t in tasks] == [g.cap for g in expected]


def test_the_source_of_official_panels_tells_them_from_the_papers(folder: Path) -> None:
    assert panel_source(folder) == (
        "generated, 1,000 products, goals in the official order, view papers, dialect client, nouns: listed"
    )


def test_the_rows_that_count_for_nothing_are_counted_by_reason(tmp_path: Path) -> None:
    assert metrics.left_out_of(tmp_path) == {}
    rows = {"schema_version": 1, "left_out": {"no name": {"count": 250, "rows": ["7 (B1)"]}}}
    (tmp_path / "left_out.json").write_text(json.dumps(rows))
    assert metrics.left_out_of(tmp_path) == {"no name": 250}


def test_what_panels_share_is_counted_by_product_text_and_goal(folder: Path) -> None:
    [train_dev, train_test, dev_test] = metrics.overlaps_of(folder)
    tasks = {panel: load_panel(folder, panel)[0] for panel in NUMBERS}
    assert (train_test["panel"], train_test["with"], train_test["tasks"]) == ("train", "test", 1200)
    for row in (train_dev, train_test, dev_test):
        there = tasks[row["with"]]
        products, texts = {t.spec["asin"] for t in there}, {t.goal for t in there}
        assert row["shared"]["product"] == sum(t.spec["asin"] in products for t in tasks[row["panel"]]) > 0
        assert row["shared"]["text"] == sum(t.goal in texts for t in tasks[row["panel"]])
        assert row["shared"]["goal"] <= min(row["shared"]["product"], row["shared"]["text"])


def task(panel: str, asin: str, text: str, option: str = "") -> Task:
    spec = {"asin": asin, "instruction": text, "attributes": ["soft"], "options": [option] if option else []}
    return Task(f"{panel}-{asin}-{text}-{option}", "webshop", panel, "food", text, spec)


def test_a_text_a_product_and_a_whole_goal_are_told_apart() -> None:
    train = [task("train", "A", "a cup"), task("train", "A", "a mug"), task("train", "B", "a cup")]
    train += [task("train", "A", "a cup", "red"), task("train", "C", "a pot")]
    found = overlaps(
        {"train": train, "test": [task("test", "A", "a cup")], "dev": [task("dev", "D", "a pan")]}, WEBSHOP.asks
    )
    assert found == [{"panel": "train", "with": "test", "tasks": 5, "shared": {"product": 3, "text": 3, "goal": 1}}]


def test_balanced_panels_share_nothing_and_say_so_by_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {panel: {"plain": 2, "options": 2} for panel in NUMBERS}
    small = settings(choose="balanced", products=60, sizes=few)
    monkeypatch.setattr(stage, "load", lambda: SimpleNamespace(panels={"webshop": small}, limit={}))
    stage.run("webshop", tmp_path)
    assert sorted(path.name for path in (tmp_path / "webshop").iterdir()) == [
        "catalogue.parquet",
        "panels.json",
        "tasks.parquet",
    ]
    assert metrics.overlaps_of(tmp_path / "webshop") == []


def test_fewer_goals_than_official_panels_need_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(PanelError, match=r"'train' asks for goals 1,500 to 2,699 of the official order, .* 480 in all"):
        build_panels(settings(products=120), tmp_path / "p")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"goals": "synthetic"}, "panels.webshop: choose 'official' takes the human goals"),
        ({"official__test": 501}, "panels.webshop.official.test"),
        ({"official__dev": 1001}, "panels.webshop.official.dev"),
        ({"official__train": 0}, "panels.webshop.official.train"),
        ({}, "warmup.enabled needs warm-up tasks of webshop"),
    ],
)
def test_settings_that_official_panels_cannot_have_are_refused(changes: dict[str, Any], said: str) -> None:
    keys = {f"panels__webshop__{key}": value for key, value in {"choose": "official", **changes}.items()}
    assert said in fault(changed(**keys))


def test_official_panels_have_the_sizes_that_the_settings_say() -> None:
    found = parse(
        changed(panels__webshop__choose="official", panels__webshop__sizes={}, warmup__enabled=False), "params"
    )
    assert {panel: found.size("webshop", panel) for panel in ("warmup", *NUMBERS)} == {"warmup": 0, **NUMBERS}


# ALFWorld


def test_train_games_that_share_a_goal_with_a_valid_split_can_be_kept() -> None:
    games = many()
    measured = {game.goal for split in ("valid_seen", "valid_unseen") for game in games[split]}
    dropped, kept = (draw(games, official(shared_goals=fate), seed=7) for fate in ("drop", "keep"))
    assert (dropped.shared, dropped.withdrawn) == (kept.shared, dropped.shared) and kept.withdrawn == 0
    assert not measured & {game.goal for game in dropped.panels["train"]}
    assert measured & {game.goal for game in kept.panels["train"]}
    assert [len(kept.panels[panel]) for panel in ("train", "test", "test_seen")] == [1200, 134, 140]
    assert not {game.goal for game in kept.panels["train"]} & {game.goal for game in kept.panels["dev"]}
    assert len(draw(games, official(train=3400, shared_goals="keep"), seed=7).panels["train"]) == 3400


def test_shared_alfworld_games_are_counted_by_goal() -> None:
    one, other = (
        {"scene": g.scene, "task_type": g.task_type, "object": g.object, "receptacle": g.receptacle}
        for g in goals("heat", 2)
    )
    panels = {
        "train": [Task("t0", "alfworld", "train", "heat", "", one), Task("t1", "alfworld", "train", "heat", "", other)],
        "test_seen": [Task("s0", "alfworld", "test_seen", "heat", "", one)],
    }
    [row] = overlaps(panels, plugins.environment("alfworld").asks)
    assert row == {"panel": "train", "with": "test_seen", "tasks": 2, "shared": {"goal": 1}}


# The profiles


@pytest.mark.parametrize("profile", PAPER)
def test_what_the_table_of_differences_says_of_settings_is_true(profile: str) -> None:
    page = (ROOT / "docs/gpu.md").read_text(encoding="utf-8")
    table = page.split("<!-- differences -->")[1].split("<!-- /differences -->")[0]
    found = settings_with(ROOT / "params.yaml", ROOT / "profiles" / f"{profile}.yaml").model_dump(mode="json")
    said = [cell.partition(": ")[::2] for cell in table.split("`")[1::2]]
    assert len(said) >= 12
    for key, value in said:
        here: Any = found
        for part in key.split("."):
            here = here[part]
        assert here == yaml.safe_load(value), key


def test_the_papers_profiles_differ_in_the_model_alone() -> None:
    one, other = (
        settings_with(ROOT / "params.yaml", ROOT / "profiles" / f"{p}.yaml").model_dump(mode="json") for p in PAPER
    )
    assert {section for section in one if one[section] != other[section]} == {"model"}


def test_the_papers_budgets_are_those_of_its_profiles() -> None:
    setups = json.loads((ROOT / "stages/reporting/paper.json").read_text(encoding="utf-8"))["setups"]
    for profile in PAPER:
        found = settings_with(ROOT / "params.yaml", ROOT / "profiles" / f"{profile}.yaml")
        for env, setup in setups.items():
            assert setup["budget"] == {
                "train tasks": found.size(env, "train"),
                "turns an episode": found.runner.max_turns[env],
                "hints": found.hints.k,
                "worked examples": found.agent.shots[env],
            }
            assert found.size(env, setup["panel"]) == setup["n"]
