"""Panels: disjoint, hashed, the same on every run, and never half written."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from stages import panels as stage
from stages.core import plugins
from stages.core.files import replacing
from stages.core.params import load
from stages.envs.alfworld import CATEGORY, TASK_TYPE
from stages.envs.alfworld.environment import AlfworldEnvironment
from stages.envs.base import EnvironmentFault, Task
from stages.envs.panel import PanelError, cut, load_panel, panel_names, panel_sha256, write_panels
from stages.panelling.alfworld import panels
from stages.panelling.alfworld.generator import GAME_FILE, Game, possible_goals, write_game
from stages.panelling.alfworld.scenes import UNSEEN_SCENES


@dataclass(frozen=True)
class Sizes:
    sizes: Mapping[str, Mapping[str, int]]
    seed: int = 5
    source: str = "generated"


SMALL = Sizes({"warmup": {"put": 1}, "train": {"heat": 1, "put": 1}, "dev": {"examine": 1}, "test": {"examine": 2}})
LARGE = Sizes(
    {
        panel: dict.fromkeys(TASK_TYPE, number)
        for panel, number in (("warmup", 10), ("train", 20), ("dev", 5), ("test", 16))
    }
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    out = tmp_path_factory.mktemp("panels") / "alfworld"
    panels.build_panels(SMALL, out, cache)
    return out


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Game]]:
    return panels.draw_games(LARGE)


def some_tasks(number: int, panel: str = "dev") -> list[Task]:
    return [
        Task(f"t-{panel}-{k}", "toy", panel, "easy", "tidy up", {"file": f"{k}.txt", "n": k}) for k in range(number)
    ]


def run_stage(sizes: Sizes, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The stage `panels` for ALFWorld, below `folder`."""
    monkeypatch.setattr(stage, "load", lambda: SimpleNamespace(panels={"alfworld": sizes}, limit={}))
    monkeypatch.setattr(stage, "CACHE", cache)
    return stage.run("alfworld", folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def games_of(folder: Path) -> set[str]:
    """The files that the tasks of all panels name."""
    return {task.spec["game"] for panel in panel_names(folder) for task in load_panel(folder, panel)[0]}


# Drawing


def test_sizes_are_met_category_by_category(drawn: dict[str, list[Game]]) -> None:
    for panel, games in drawn.items():
        assert Counter(CATEGORY[g.goal.task_type] for g in games) == LARGE.sizes[panel]


def test_panels_share_no_goal_and_no_game(drawn: dict[str, list[Game]]) -> None:
    owner: dict[object, str] = {}
    for panel, games in drawn.items():
        for game in games:
            assert owner.setdefault(game.goal, panel) == panel
    every = [game for games in drawn.values() for game in games]
    assert len({game.files[GAME_FILE] for game in every}) == len({game.path for game in every}) == len(every)


def test_a_goal_comes_back_only_after_all_others(drawn: dict[str, list[Game]]) -> None:
    counts = Counter(game.goal for game in drawn["test"] if game.goal.task_type == TASK_TYPE["examine"])
    assert max(counts.values()) - min(counts.values()) <= 1
    assert max(counts.values()) <= panels.MAX_GAMES_PER_GOAL
    assert set(Counter(game.goal for game in drawn["train"]).values()) == {1}


def test_only_dev_and_test_play_in_unseen_scenes(drawn: dict[str, list[Game]]) -> None:
    scenes = {panel: {game.goal.scene for game in games} for panel, games in drawn.items()}
    assert (scenes["warmup"] | scenes["train"]).isdisjoint(UNSEEN_SCENES)
    assert scenes["dev"] | scenes["test"] == UNSEEN_SCENES


def test_any_first_part_of_a_panel_is_balanced(drawn: dict[str, list[Game]]) -> None:
    assert Counter(CATEGORY[g.goal.task_type] for g in drawn["test"][:18]) == dict.fromkeys(TASK_TYPE, 3)


def test_another_seed_draws_other_games(drawn: dict[str, list[Game]]) -> None:
    other = panels.draw_games(replace(LARGE, seed=6))
    assert {g.goal for g in drawn["train"]} != {g.goal for g in other["train"]}


def test_a_panel_that_cannot_be_filled_is_refused(tmp_path: Path) -> None:
    goals = len(possible_goals(TASK_TYPE["examine"], unseen=True))
    most = goals * panels.MAX_GAMES_PER_GOAL
    assert len(panels.draw_games(Sizes({"test": {"examine": most}}))["test"]) == most
    with pytest.raises(PanelError, match=f"dev and test ask for 1 and {most} examine games.* {goals} goals"):
        panels.build_panels(Sizes({"dev": {"examine": 1}, "test": {"examine": most}}), tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_all_impossible_sizes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(PanelError, match=r"panel 'exam' is unknown.*category 'sing' is unknown.*-1 games") as error:
        panels.build_panels(Sizes({"exam": {}, "dev": {"sing": 1, "put": -1}}), tmp_path / "out", tmp_path)
    for known in ("warmup", "puttwo"):
        assert known in str(error.value)


# Building


def test_built_panels_load_with_their_hashes(built: Path) -> None:
    summary = json.loads((built / "panels.json").read_text())
    assert (summary["schema_version"], summary["env"], summary["source"]) == (1, "alfworld", "generated")
    assert list(summary["panels"]) == ["train", "dev", "test"]
    for panel in summary["panels"]:
        sizes = SMALL.sizes[panel]
        tasks, sha256 = load_panel(built, panel)
        assert summary["panels"][panel] == {"n": len(tasks), "sha256": sha256}
        assert Counter(task.category for task in tasks) == sizes
        assert sha256 == panel_sha256(tasks)
        for task in tasks:
            assert (task.env, task.panel) == ("alfworld", panel)
            assert hashlib.sha256((built / task.spec["game"]).read_bytes()).hexdigest() == task.spec["sha256"]
            assert task.spec["task_type"] == TASK_TYPE[task.category]


def test_tasks_parquet_has_the_columns_others_read(built: Path) -> None:
    table = pl.read_parquet(built / "tasks.parquet")
    columns = "schema_version task_id env panel category goal game sha256 task_type scene object receptacle"
    assert " ".join(table.columns) == columns
    assert table["task_id"].to_list()[:2] == ["alfworld-train-heat-0000", "alfworld-train-put-0000"]


def test_the_warmups_games_are_those_drawn_beside_the_others_and_built_alone(cache: Path, tmp_path: Path) -> None:
    panels.build_panels(SMALL, tmp_path, cache, names=("warmup",))
    assert panel_names(tmp_path) == ["warmup"]
    [game] = panels.draw_games(SMALL)["warmup"]
    [task] = load_panel(tmp_path, "warmup")[0]
    assert (task.goal, task.spec["object"]) == (game.sentence, game.goal.object)
    assert games_of(tmp_path) == {file for file in contents(tmp_path) if file.endswith(".tw-pddl")}


def test_building_again_gives_the_same_bytes_and_leaves_nothing_beside(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panels.build_panels(SMALL, tmp_path / "first", cache)
    out = tmp_path / "panels"
    for _ in range(2):  # into nothing, and over a folder that is there
        assert run_stage(SMALL, out, cache, monkeypatch) == "alfworld: train 2, dev 1, test 2"
        assert contents(out / "alfworld") == contents(tmp_path / "first")
        assert [p.name for p in out.iterdir()] == ["alfworld"]


@pytest.mark.parametrize("env", ["alfworld", "webshop"])
def test_a_limit_keeps_a_panels_first_tasks(env: str, cache: Path, tmp_path: Path) -> None:
    goals = {"train": {"plain": 3, "options": 2}, "dev": {"plain": 1}, "test": {"options": 1}}
    sizes = {"alfworld": SMALL.sizes, "webshop": goals}[env]
    committed = load(Path(__file__).parents[1] / "params.yaml").panels[env]
    settings = committed.model_copy(update={"sizes": sizes, "products": 120})
    build = plugins.resolve(plugins.environment(env).panels)
    for out, limit in (("whole", {}), ("first", {"train": 1, "dev": None, "test": 99})):
        build(settings, tmp_path / out, cache, limit)
    assert panel_names(tmp_path / "first") == panel_names(tmp_path / "whole") == ["train", "dev", "test"]
    for panel, limited in {"train": True, "dev": False, "test": False}.items():
        (tasks, sha256), (whole, whole_sha256) = (load_panel(tmp_path / out, panel) for out in ("first", "whole"))
        assert len(whole) > 1 or not limited
        assert tasks == whole[: 1 if limited else None]
        assert (sha256 != whole_sha256) == limited
        assert sha256 == panel_sha256(tasks)
    if env == "alfworld":
        kept = {file for file in contents(tmp_path / "first") if file.endswith(".tw-pddl")}
        assert kept == games_of(tmp_path / "first") < games_of(tmp_path / "whole")


def test_checking_leaves_all_translations_in_the_cache(
    built: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.envs.alfworld.translation.translate", lambda *_: pytest.fail("translated again"))
    environment = AlfworldEnvironment(built, cache)
    for panel in panel_names(built):
        for task in load_panel(built, panel)[0]:
            assert f"Your task is to: {task.goal}." in environment.reset(task).text


def test_a_game_that_cannot_be_won_fails_the_build_and_keeps_what_was_there(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_last_command(root: Path, game: Game) -> Path:
        content = json.loads(game.files[GAME_FILE])
        content["walkthrough"].pop()
        return write_game(root, replace(game, files=game.files | {GAME_FILE: json.dumps(content)}))

    (tmp_path / "alfworld").mkdir()
    (tmp_path / "alfworld" / "earlier").write_text("stays")
    monkeypatch.setattr(panels, "write_game", without_last_command)
    with pytest.raises(EnvironmentFault, match=r"game\.tw-pddl: its walkthrough ends with .* not won"):
        run_stage(Sizes({"dev": {"examine": 1}}), tmp_path, cache, monkeypatch)
    assert contents(tmp_path) == {"alfworld/earlier": b"stays"}


# Writing and loading, whatever the environment


def test_a_panel_of_any_environment_comes_back_as_it_was(tmp_path: Path) -> None:
    written = {"dev": some_tasks(3), "test": some_tasks(2, "test")}
    write_panels(tmp_path, "toy", "official", written)
    for name, tasks in written.items():
        assert load_panel(tmp_path, name) == (tasks, panel_sha256(tasks))


def test_the_hash_covers_order_and_every_field() -> None:
    tasks = some_tasks(2)
    variants = [
        tasks,
        tasks[::-1],
        tasks[:1],
        [replace(tasks[0], goal="rest"), tasks[1]],
        [replace(tasks[0], spec={**tasks[0].spec, "n": 9}), tasks[1]],
    ]
    assert len({panel_sha256(v) for v in variants}) == len(variants)


def test_changed_rows_are_refused(tmp_path: Path) -> None:
    write_panels(tmp_path, "toy", "official", {"dev": some_tasks(3)})
    table = pl.read_parquet(tmp_path / "tasks.parquet")
    table.with_columns(goal=pl.lit("rest")).write_parquet(tmp_path / "tasks.parquet")
    expected = json.loads((tmp_path / "panels.json").read_text())["panels"]["dev"]["sha256"]
    with pytest.raises(PanelError, match=rf"tasks\.parquet: panel 'dev' is not the one.*{expected}.*dvc checkout"):
        load_panel(tmp_path, "dev")


def test_an_empty_panel_is_refused(tmp_path: Path) -> None:
    write_panels(tmp_path, "toy", "official", {"dev": some_tasks(1), "test": []})
    with pytest.raises(PanelError, match=r"panel 'test' is empty"):
        load_panel(tmp_path, "test")


def test_a_missing_panel_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(PanelError, match=r"panels\.json: can't be read .*dvc repro"):
        load_panel(tmp_path, "dev")
    write_panels(tmp_path, "toy", "official", {"dev": some_tasks(1)})
    with pytest.raises(PanelError, match="there is no panel 'exam', only dev"):
        load_panel(tmp_path, "exam")


def test_another_schema_is_refused(tmp_path: Path) -> None:
    write_panels(tmp_path, "toy", "official", {"dev": some_tasks(1)})
    summary = json.loads((tmp_path / "panels.json").read_text())
    (tmp_path / "panels.json").write_text(json.dumps(summary | {"schema_version": 99}))
    with pytest.raises(PanelError, match="expected schema_version 1, found 99"):
        load_panel(tmp_path, "dev")


def test_repeated_task_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PanelError, match=r"unique.*t-dev-0"):
        write_panels(tmp_path, "toy", "official", {"dev": some_tasks(1), "test": some_tasks(1)})


def test_replacing_leaves_the_earlier_folder_on_an_error(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with replacing(out) as fresh:
        (fresh / "a").write_text("first")

    def interrupted() -> None:
        with replacing(out) as fresh:
            (fresh / "a").write_text("second")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert contents(tmp_path) == {"out/a": b"first"}


def test_a_limit_takes_kinds_in_equal_parts_and_keeps_their_order() -> None:
    items = ["a1", "a2", "a3", "a4", "b1", "b2", "c1"]
    assert cut(items, lambda item: item[0], 5) == ["a1", "a2", "b1", "b2", "c1"]
    assert cut(items, lambda item: item[0], 6) == ["a1", "a2", "a3", "b1", "b2", "c1"]
    assert cut(items, lambda item: item[0], 1) == ["a1"]
    assert cut(items, lambda item: item[0], 99) == cut(items, lambda item: item[0], None) == items
