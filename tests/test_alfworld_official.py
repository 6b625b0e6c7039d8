"""Official ALFWorld games: all of them and only they, drawn into panels that share no goal, in either grammar."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from official_games import alter, content_of, game_of, goals, of_release_1, of_release_2, write_official

from stages import panels as stage
from stages.core.params import load
from stages.envs.alfworld import CATEGORY, ENVIRONMENT, TASK_TYPE
from stages.envs.alfworld.engine import Engine, Frame
from stages.envs.alfworld.environment import AlfworldEnvironment
from stages.envs.base import EnvironmentFault
from stages.envs.panel import PanelError, load_panel, panel_names, panel_sha256, panel_source
from stages.panelling.alfworld import official_panels
from stages.panelling.alfworld.generator import Goal
from stages.panelling.alfworld.official import OfficialGame, draw, find_root, read_games
from stages.panelling.alfworld.settings import AlfworldPanels, OfficialAlfworld

SHARED = goals("heat", 1)[0]  # a train goal that a measured split has too
SPLITS = {
    "train": {**dict.fromkeys(goals("put", 3), 2), **dict.fromkeys(goals("cool", 2), 1), SHARED: 2},
    "valid_seen": {SHARED: 1, goals("examine", 1)[0]: 1},
    "valid_unseen": dict.fromkeys([*goals("puttwo", 1, unseen=True), *goals("clean", 1, unseen=True)], 1),
}
COUNTS = {"train": 10, "valid_seen": 2, "valid_unseen": 2}
SIZES = {"warmup": 1, "train": 3, "dev": 2, "test": 2, "test_seen": 2}


def settings(folder: Path | None, **changes: Any) -> AlfworldPanels:
    values = {"data_dir": folder and str(folder), "train": 3, "dev": 2, "warmup": 1, "shared_goals": "drop"}
    official = OfficialAlfworld.model_validate(values | {"counts": COUNTS} | changes)
    return AlfworldPanels(source="official", seed=4, sizes={}, official=official)


def build(folder: Path, out: Path, cache: Path, **changes: Any) -> None:
    """All panels, those of the warm-up among them."""
    official_panels.build_panels(settings(folder, **changes), out, cache, folder / "downloads", names=SIZES)


def run_stage(folder: Path, cache: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **limit: int) -> str:
    """The stage `panels` on the games of a folder, below `out`."""
    committed = load(Path(__file__).parents[1] / "params.yaml")
    panels = committed.panels.model_copy(update={"alfworld": settings(folder)})
    monkeypatch.setattr(stage, "CACHE", cache)
    monkeypatch.setattr(stage, "load", lambda: committed.model_copy(update={"panels": panels, "limit": limit}))
    return stage.run("alfworld", out)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official(tmp_path_factory.mktemp("official"), SPLITS)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, data: Path, cache: Path) -> Path:
    out = tmp_path_factory.mktemp("panels") / "alfworld"
    build(data, out, cache)
    return out


def own(tmp_path: Path, splits: dict[str, dict[Goal, int]] = SPLITS) -> tuple[Path, list[Path]]:
    """A tree that a test may damage, and its train games."""
    root = write_official(tmp_path / "official", splits)
    return root, sorted(root.glob("train/*/*/game.tw-pddl"))


def refused(root: Path, counts: dict[str, int] | None = COUNTS) -> str:
    with pytest.raises(PanelError) as error:
        read_games(root, counts)
    assert str(error.value).startswith(f"{root}: these official games can't be used as they are\n  ")
    return str(error.value)


# Building


def test_test_panels_are_the_valid_splits_whole_and_sorted(built: Path, data: Path) -> None:
    for panel, split in (("test", "valid_unseen"), ("test_seen", "valid_seen")):
        tasks, _ = load_panel(built, panel)
        paths = sorted(p.relative_to(data).as_posix() for p in data.glob(f"{split}/*/*/game.tw-pddl"))
        assert [task.spec["game"] for task in tasks] == [f"games/{path}" for path in paths]


def test_drawn_panels_have_their_sizes_and_share_no_goal(built: Path) -> None:
    panels = {name: load_panel(built, name)[0] for name in SIZES}
    assert {name: len(tasks) for name, tasks in panels.items()} == SIZES
    assert Counter(task.category for task in panels["dev"]) == {"put": 1, "cool": 1}
    owner: dict[object, str] = {}
    for name, tasks in panels.items():
        assert [t.spec["game"] for t in tasks] == sorted(t.spec["game"] for t in tasks)
        for task in tasks:
            goal = tuple(task.spec[key] for key in ENVIRONMENT.same_goal)
            assert owner.setdefault(goal, name) == name


def test_a_task_says_what_generated_ones_say(built: Path, data: Path) -> None:
    table = pl.read_parquet(built / "tasks.parquet")
    columns = "schema_version task_id env panel category goal game sha256 task_type scene object receptacle"
    assert " ".join(table.columns) == columns
    task = load_panel(built, "test")[0][0]
    assert task.task_id == f"alfworld-test-{task.category}-0000"
    content = (data / task.spec["game"].removeprefix("games/")).read_bytes()
    assert (built / task.spec["game"]).read_bytes() == content
    assert task.spec["sha256"] == hashlib.sha256(content).hexdigest()
    assert f"Your task is to: {task.goal}." in json.loads(content)["grammar"]
    assert task.spec["game"].split("/")[2] == "{task_type}-{object}-None-{receptacle}-{scene}".format(**task.spec)
    assert isinstance(task.spec["scene"], int)


def test_the_source_tells_release_counts_and_what_was_left_out(built: Path) -> None:
    assert panel_source(built) == (
        "official (json_2.1.2; 10 train, 2 valid_seen, 2 valid_unseen; 2 train games left out, whose goals valid_seen or "
        "valid_unseen have too)"
    )


def test_the_same_games_give_the_same_bytes_in_whatever_order_they_were_written(
    built: Path, cache: Path, tmp_path: Path
) -> None:
    backwards = {split: dict(reversed(trials.items())) for split, trials in reversed(SPLITS.items())}
    root = write_official(tmp_path / "download" / "json_2.1.1", backwards).parent
    build(root, tmp_path / "out", cache)
    files = sorted(p.relative_to(built) for p in built.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert all((built / name).read_bytes() == (tmp_path / "out" / name).read_bytes() for name in files)


def test_the_stage_builds_what_the_settings_name(
    data: Path, built: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_stage(data, cache, tmp_path, monkeypatch) == "alfworld: train 3, dev 2, test 2, test_seen 2"
    assert panel_source(tmp_path / "alfworld").startswith("official (json_2.1.2; ")
    for panel in panel_names(tmp_path / "alfworld"):
        assert load_panel(tmp_path / "alfworld", panel) == load_panel(built, panel)


def test_a_limit_keeps_a_panels_first_games(
    data: Path, built: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stage(data, cache, tmp_path, monkeypatch, train=2, test_seen=1, test=99)
    for panel, size in {"train": 2, "dev": 2, "test": 2, "test_seen": 1}.items():
        (tasks, sha256), (whole, whole_sha256) = load_panel(tmp_path / "alfworld", panel), load_panel(built, panel)
        assert tasks == whole[:size]
        assert sha256 == panel_sha256(whole[:size])
        assert (sha256 != whole_sha256) == (panel in ("train", "test_seen"))
    games = {p.relative_to(tmp_path / "alfworld").as_posix() for p in tmp_path.rglob("*.tw-pddl")}
    names = panel_names(tmp_path / "alfworld")
    assert games == {t.spec["game"] for name in names for t in load_panel(tmp_path / "alfworld", name)[0]}


def test_games_that_cannot_be_played_are_all_named_and_leave_what_was_there(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = own(tmp_path)
    first, second = sorted(root.glob("valid_unseen/*/*/game.tw-pddl"))
    problem = json.loads(first.read_text())["pddl_problem"]
    won = "(:goal (exists (?a - agent ?l - location) (atLocation ?a ?l)))\n)"
    alter(first, pddl_problem=problem.split("(:goal")[0] + won)
    alter(second, pddl_problem=problem.replace("(atLocation", "(atNowhere"))
    out = tmp_path / "panels" / "alfworld"
    out.mkdir(parents=True)
    (out / "earlier").write_text("stays")
    with pytest.raises(EnvironmentFault, match=r"2 of \d+ games can't be played") as error:
        run_stage(root, cache, tmp_path / "panels", monkeypatch)
    assert f"{first.relative_to(root)}: the game is won before it begins" in str(error.value)
    assert f"{second.relative_to(root)}: the game does not start" in str(error.value)
    assert [p.relative_to(tmp_path / "panels").as_posix() for p in (tmp_path / "panels").rglob("*") if p.is_file()] == [
        "alfworld/earlier"
    ]


# Both grammars


def test_agents_meet_one_grammar_whatever_the_release(tmp_path: Path, cache: Path) -> None:
    game = game_of(SHARED)
    engine = Engine(cache)
    assert any(command.startswith("move ") for command in game.walkthrough)

    def play(content: dict[str, Any]) -> list[Frame]:
        frames = [engine.start(content), *(engine.step(command) for command in game.walkthrough)]
        return [Frame(f.text, tuple(c for c in f.admissible if c != "help"), f.won) for f in frames]

    old, new = of_release_1(content_of(game)), of_release_2(content_of(game))
    assert '"put {o} in/on {r}"' in old["grammar"] and '"move {o} to {r}"' not in old["grammar"]
    assert play(old) == play(new)
    assert play(new)[-1].won
    assert "loc " not in " ".join(frame.text for frame in play(old))


def test_panels_of_old_data_are_played_with_move(tmp_path: Path, cache: Path) -> None:
    root = write_official(tmp_path / "official", SPLITS, of_release_1)
    build(root, tmp_path / "out", cache)
    assert panel_source(tmp_path / "out").startswith("official (json_2.1.1; ")
    environment = AlfworldEnvironment(tmp_path / "out", cache)
    task = load_panel(tmp_path / "out", "test_seen")[0][-1]
    assert task.spec["task_type"] == SHARED.task_type
    seen = environment.reset(task)
    for command in game_of(SHARED).walkthrough:
        assert command in seen.admissible
        seen = environment.step(command)
    assert seen.reward == 1


def test_a_game_of_an_unknown_grammar_is_refused_before_it_is_drawn(tmp_path: Path) -> None:
    root, (game, *_) = own(tmp_path)
    grammar = json.loads(game.read_text())["grammar"]
    alter(game, grammar=grammar.replace("move {o} to {r}", "drop {o} at {r}"))
    said = refused(root)
    assert f"1 game, {game.relative_to(root)} the first: the grammar is of an unknown kind" in said
    assert "neither by `move X to Y` nor by `put X in/on Y`" in said


def test_the_engine_refuses_an_unknown_grammar(tmp_path: Path, cache: Path) -> None:
    content = of_release_2(content_of(game_of(SHARED)))
    content["grammar"] = content["grammar"].replace("move {o} to {r}", "drop {o} at {r}")
    with pytest.raises(ValueError, match="of an unknown kind"):
        Engine(cache).start(content)


# What counts as a game


def test_movable_sliced_and_unsolvable_games_are_no_part_of_the_benchmark(tmp_path: Path) -> None:
    root, (unsolvable, *_) = own(tmp_path)
    alter(unsolvable, solvable=False)
    for name in (
        "pick_and_place_with_movable_recep-Egg-Bowl-Fridge-3",
        "pick_cool_then_place_in_recep-BreadSliced-None-Fridge-3",
    ):
        path = root / "train" / name / "trial_T0" / "game.tw-pddl"
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    games = read_games(root, COUNTS | {"train": 9})
    assert {split: len(found) for split, found in games.items()} == COUNTS | {"train": 9}
    assert str(unsolvable.relative_to(root)) not in {game.path for game in games["train"]}


def test_other_numbers_of_games_are_refused_with_what_to_do(data: Path) -> None:
    said = refused(data, {"train": 3553, "valid_seen": 2, "valid_unseen": 134})
    assert "3,553 train games expected, 10 found; 134 valid_unseen games expected, 2 found" in said
    assert "valid_seen games" not in said
    assert "(set panels.alfworld.official.counts to null or to these numbers to accept them)" in said
    assert sum(map(len, read_games(data, None).values())) == 14


def test_a_split_without_games_is_refused_even_where_any_number_will_do(tmp_path: Path) -> None:
    root, _ = own(tmp_path, SPLITS | {"valid_seen": {}})
    (root / "valid_seen").mkdir()
    assert "no playable game in valid_seen" in refused(root, None)


def test_all_games_without_a_verdict_and_all_broken_ones_are_named_at_once(tmp_path: Path) -> None:
    root, (first, second, cut, part, *_) = own(tmp_path)
    alter(first, solvable=None)
    alter(second, solvable=None)
    cut.write_bytes(cut.read_bytes()[:1000])
    alter(part, grammar=None, pddl_domain=None)
    strange = root / "train" / "sing-Song-None-Stage-1" / "trial_T0" / "game.tw-pddl"
    strange.parent.mkdir(parents=True)
    strange.write_bytes((root / "train").glob("*/*/game.tw-pddl").__next__().read_bytes())
    alter(strange, solvable=True, grammar=json.loads(sorted(root.glob("valid_seen/*/*/*"))[0].read_text())["grammar"])
    said = refused(root)
    assert f"2 games, {first.relative_to(root)} the first: no `solvable` in it" in said
    assert "alfworld-play-tw" in said and "data_dir: null downloads them" in said
    assert f"1 game, {cut.relative_to(root)} the first: a game is a JSON file, and this is none" in said
    assert f"1 game, {part.relative_to(root)} the first: no pddl_domain and no grammar in it" in said
    assert "sing-Song-None-Stage-1/trial_T0/game.tw-pddl the first: its folder isn't named" in said


def test_a_folder_without_the_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PanelError, match=r"nowhere: expected the folders train, valid_seen, valid_unseen.*found none"):
        find_root(tmp_path / "nowhere")
    for name in ("json_2.1.1", "json_2.1.2"):
        write_official(tmp_path / name, {split: {SHARED: 1} for split in SPLITS})
    with pytest.raises(PanelError, match=r"in one json_2\.1\.\* folder of it, found json_2\.1\.1 and json_2\.1\.2\."):
        find_root(tmp_path)
    assert find_root(tmp_path / "json_2.1.2") == tmp_path / "json_2.1.2"


# Drawing, at the size of the official data


def many() -> dict[str, list[OfficialGame]]:
    """As many games as the official splits have, in goals of one to three trials."""
    games: dict[str, list[OfficialGame]] = {}
    types = sorted(CATEGORY)
    for split, number, start in (("train", 3553, 0), ("valid_seen", 140, 60), ("valid_unseen", 134, 9000)):
        made = [
            OfficialGame(f"{split}/{n:05d}/{trial}", Goal(types[n % 6], n, "Mug", "Desk"), "put", "json_2.1.2")
            for n in range(start, start + number)
            for trial in range(1 + n % 3)
        ]
        games[split] = made[:number]
    return games


def official(**changes: Any) -> OfficialAlfworld:
    values = {"data_dir": None, "train": 1200, "dev": 120, "warmup": 0, "shared_goals": "drop"}
    return OfficialAlfworld.model_validate(values | {"counts": None} | changes)


def test_the_papers_sizes_can_be_drawn_without_sharing_a_goal() -> None:
    drawn = draw(many(), official(warmup=100), seed=7)
    assert {name: len(games) for name, games in drawn.panels.items()} == {
        "warmup": 100,
        "train": 1200,
        "dev": 120,
        "test": 134,
        "test_seen": 140,
    }
    assert Counter(game.category for game in drawn.panels["dev"]) == dict.fromkeys(TASK_TYPE, 20)
    owned = [{game.goal for game in games} for games in drawn.panels.values()]
    assert len(set().union(*owned)) == sum(map(len, owned))
    seen = {game.goal for game in many()["valid_seen"]}
    assert drawn.withdrawn == sum(game.goal in seen for game in many()["train"]) > 100
    assert {game.path for name in ("warmup", "train", "dev") for game in drawn.panels[name]} <= {
        game.path for game in many()["train"]
    }


def test_another_seed_draws_other_train_games_and_the_same_tests() -> None:
    one, other = draw(many(), official(), seed=7), draw(many(), official(), seed=8)
    assert one.panels["train"] != other.panels["train"]
    assert (one.panels["test"], one.panels["test_seen"]) == (other.panels["test"], other.panels["test_seen"])
    assert draw(many(), official(), seed=7) == one
    assert "warmup" not in one.panels


def test_more_train_games_than_there_are_is_refused() -> None:
    with pytest.raises(
        PanelError, match=r"'train' asks for 3,500 games, and 3,\d\d\d of 3,553 train games are left: 1\d\d share "
    ):
        draw(many(), official(train=3500), seed=7)
