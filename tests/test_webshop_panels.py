"""The generated catalogue and the panels: every goal can be met, simple policies find it about as hard as the papers did."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import policies
import pytest
import yaml
from structure import ROOT

from stages import panels as stage
from stages.commands.shop import open_shop
from stages.envs.base import Task
from stages.envs.panel import PanelError, load_panel, panel_names
from stages.envs.webshop.catalogue import Catalogue, load_catalogue
from stages.envs.webshop.environment import WebShopEnvironment, read_spec
from stages.envs.webshop.records import Goal
from stages.panelling.webshop.generator import generate
from stages.panelling.webshop.goals import human_goals
from stages.panelling.webshop.nouns import ListedNouns
from stages.panelling.webshop.official import FILES, read_official
from stages.panelling.webshop.panels import build_panels
from stages.panelling.webshop.settings import WebshopPanels
from stages.panelling.webshop.vocabulary import KINDS, NOUNS
from stages.site.remote import RemoteShop

PANELS = ("warmup", "train", "dev", "test")
COMMITTED = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["panels"]["webshop"]


def settings(**changes: Any) -> WebshopPanels:
    return WebshopPanels.model_validate({**COMMITTED, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The panels that params.yaml asks for."""
    folder = tmp_path_factory.mktemp("panels") / "webshop"
    build_panels(settings(), folder, names=PANELS)
    return folder


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalogue, list[Goal]]:
    folder = tmp_path_factory.mktemp("shop")
    generate(folder, 1000, 7)
    data = read_official(folder, products="1000", seed=7, nouns=ListedNouns(NOUNS))
    return Catalogue(data.products), human_goals(data, 7)


def mean(scores: list[Any]) -> float:
    return 100 * sum(found.reward if found else 0.0 for found in scores) / len(scores)


def test_simple_policies_land_where_the_papers_did(shop: tuple[Catalogue, list[Goal]]) -> None:
    catalogue, goals = shop
    some = goals[:800]
    assert 45 <= mean([policies.verbatim(catalogue, goal) for goal in some]) <= 55
    assert 65 <= mean([policies.matched_options(catalogue, goal) for goal in some]) <= 75


def test_every_task_of_every_panel_can_be_met(folder: Path) -> None:
    catalogue = load_catalogue(folder / "catalogue.parquet", folder.parent / "opened")
    for panel in PANELS:
        for task in load_panel(folder, panel)[0]:
            found = policies.oracle(catalogue, read_spec(task).goal)
            assert found is not None and found.reward == 1.0, task.task_id


def test_panels_have_the_sizes_asked_for_over_all_departments(folder: Path) -> None:
    for panel in PANELS:
        tasks, _ = load_panel(folder, panel)
        for skill, count in COMMITTED["sizes"][panel].items():
            found = [task.category for task in tasks if task.skill == skill]
            assert len(found) == count
            assert not count or set(found) == set(KINDS)
        assert all((task.skill == "options") == bool(task.spec["options"]) for task in tasks)


def test_measured_panels_share_no_product_with_any_other(folder: Path) -> None:
    products = {panel: {task.spec["asin"] for task in load_panel(folder, panel)[0]} for panel in PANELS}
    for measured in ("dev", "test"):
        for other in set(PANELS) - {measured}:
            assert not products[measured] & products[other]
    goals = [(t.spec["asin"], t.goal) for panel in PANELS for t in load_panel(folder, panel)[0]]
    assert len(goals) == len(set(goals))


def test_tasks_are_played_as_the_settings_say(folder: Path) -> None:
    task: Task = load_panel(folder, "dev")[0][0]
    seen = WebShopEnvironment(folder).reset(task)
    assert task.goal in seen.text and seen.text.endswith("[Search] ")
    assert " dollars" in task.goal


SMALL = {panel: {"plain": 4, "options": 3} for panel in PANELS}


def test_the_same_seed_gives_the_same_bytes_and_another_another_shop(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        build_panels(settings(products=120, seed=seed, sizes=SMALL), tmp_path / name)
    for file in ("tasks.parquet", "panels.json", "catalogue.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
        assert (tmp_path / "a" / file).read_bytes() != (tmp_path / "c" / file).read_bytes()


def test_synthetic_goals_and_other_views_are_frozen_into_the_tasks(tmp_path: Path) -> None:
    sizes = {panel: {"options": 3} for panel in PANELS}
    build_panels(settings(products=60, goals="synthetic", view="text", dialect="text", sizes=sizes), tmp_path / "p")
    task = load_panel(tmp_path / "p", "test")[0][0]
    assert len(task.spec["option_groups"]) == len(task.spec["options"]) > 0
    seen = WebShopEnvironment(tmp_path / "p").reset(task)
    assert " [SEP] " in seen.text
    catalogue = load_catalogue(tmp_path / "p" / "catalogue.parquet", tmp_path / "cache")
    found = policies.oracle(catalogue, read_spec(task).goal)
    assert found is not None and found.reward == 1.0


def run_stage(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> str:
    """The stage `panels` for WebShop, below `folder`."""
    read = SimpleNamespace(panels={"webshop": settings(products=120, **changes)}, limit={})
    monkeypatch.setattr(stage, "load", lambda: read)
    return stage.run("webshop", folder)


def test_more_goals_than_there_are_is_an_error_that_leaves_earlier_panels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def contents() -> dict[str, bytes]:
        return {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    assert run_stage(tmp_path, monkeypatch, sizes=SMALL) == "webshop: train 7, dev 7, test 7"
    before = contents()
    with pytest.raises(PanelError, match=r"panel 'test' asks for 5000 goals of kind 'plain'.*more products"):
        run_stage(tmp_path, monkeypatch, seed=8, sizes={**SMALL, "test": {"plain": 5000}})
    assert contents() == before
    assert sorted(before) == [f"webshop/{name}" for name in ("catalogue.parquet", "panels.json", "tasks.parquet")]


def test_a_study_has_no_warmup_goals_and_the_warmup_alone_has_the_same(tmp_path: Path) -> None:
    every = settings(products=120, sizes=SMALL)
    build_panels(every, tmp_path / "every", names=PANELS)
    build_panels(every, tmp_path / "study")
    build_panels(every, tmp_path / "warmup", names=("warmup",))
    for folder, names in (("study", ["train", "dev", "test"]), ("warmup", ["warmup"])):
        assert panel_names(tmp_path / folder) == names
        for name in names:
            assert load_panel(tmp_path / folder, name) == load_panel(tmp_path / "every", name)


def test_official_data_that_are_not_there_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.panelling.webshop import panels

    monkeypatch.setattr(panels, "SpacyNouns", lambda: ListedNouns(NOUNS))
    with pytest.raises(PanelError, match=r"lacks items_shuffle_1000\.json, .*python -m stages fetch webshop"):
        build_panels(settings(source="official", data_dir=str(tmp_path)), tmp_path / "p")
    with pytest.raises(PanelError, match="1000 products, or 0 for all; found 77"):
        build_panels(settings(source="official", data_dir=str(tmp_path), products=77), tmp_path / "p")


def test_official_files_take_the_same_way_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.panelling.webshop import panels

    monkeypatch.setattr(panels, "SpacyNouns", lambda: ListedNouns(NOUNS))
    generate(tmp_path / "data", 120, 3)
    assert {path.name for path in (tmp_path / "data").iterdir()} == set(FILES["1000"])
    build_panels(settings(source="official", data_dir=str(tmp_path / "data"), seed=3, sizes=SMALL), tmp_path / "a")
    build_panels(settings(products=120, seed=3, sizes=SMALL), tmp_path / "b")
    assert (tmp_path / "a" / "tasks.parquet").read_bytes() == (tmp_path / "b" / "tasks.parquet").read_bytes()


def test_official_rows_that_count_for_nothing_are_said_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from stages.panelling.webshop import panels

    monkeypatch.setattr(panels, "SpacyNouns", lambda: ListedNouns(NOUNS))
    generate(tmp_path / "data", 120, 3)
    products = tmp_path / "data" / FILES["1000"][0]
    items = json.loads(products.read_text(encoding="utf-8"))
    products.write_text(json.dumps([{"asin": "nan", "name": float("nan")}, *items, {"asin": "nan"}]), encoding="utf-8")
    build_panels(settings(source="official", data_dir=str(tmp_path / "data"), seed=3, sizes=SMALL), tmp_path / "a")
    kept = json.loads((tmp_path / "a" / "left_out.json").read_text(encoding="utf-8"))["left_out"]
    rows = ["row 0, product nan", "row 121, product nan"]
    assert kept == {"an id that is nan or longer than 10": {"count": 2, "rows": rows}}
    assert (
        "rows left out, as upstream does: 2 with an id that is nan or longer than 10 (row 0," in capsys.readouterr().out
    )
    build_panels(settings(products=120, seed=3, sizes=SMALL), tmp_path / "b")
    assert not (tmp_path / "b" / "left_out.json").exists()
    assert (tmp_path / "a" / "tasks.parquet").read_bytes() == (tmp_path / "b" / "tasks.parquet").read_bytes()


def test_a_panel_is_served_with_its_task_n_as_the_session_fixed_n(folder: Path) -> None:
    tasks, _ = load_panel(folder, "dev")
    here = WebShopEnvironment(folder)
    with open_shop(folder, "dev", "127.0.0.1", 0) as site:
        there = RemoteShop(site.url, timeout=60.0)
        for number in (0, len(tasks) - 1):
            task = tasks[number]
            session = {"session": f"fixed_{number}", "instruction": task.goal}
            assert there.reset(replace(task, spec=session)) == here.reset(task)
            assert there.step(f"search[{task.goal}]") == here.step(f"search[{task.goal}]")


def test_the_manifest_names_the_files_it_was_made_of_and_who_tagged_the_nouns(folder: Path) -> None:
    manifest = json.loads((folder / "panels.json").read_text(encoding="utf-8"))
    assert manifest["source"] == "generated, nouns: listed"
    assert set(manifest["files"]) == set(FILES["1000"])
    assert all(len(digest) == 64 for digest in manifest["files"].values())
