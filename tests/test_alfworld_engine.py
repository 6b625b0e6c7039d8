"""The fast engine shows what textworld's own shows; the environment speaks the protocol; the cache survives damage."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import stock_alfworld
from official_games import write_official

from stages.envs.alfworld import CATEGORY
from stages.envs.alfworld.engine import Engine, Frame
from stages.envs.alfworld.environment import AlfworldEnvironment
from stages.envs.alfworld.translation import TranslationCache
from stages.envs.base import EnvironmentFault, Task
from stages.panelling.alfworld.generator import Game, generate_game, write_game

HEAT = "pick_heat_then_place_in_recep"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def engine(cache: Path) -> Engine:
    return Engine(cache)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("panel")


@pytest.fixture(scope="module")
def heat(root: Path) -> Game:
    game = generate_game(seed=3, panel="test", task_type=HEAT, index=0, unseen=True)
    write_game(root, game)
    return game


@pytest.fixture
def environment(root: Path, cache: Path) -> AlfworldEnvironment:
    return AlfworldEnvironment(root, cache)


def as_task(root: Path, game: Game) -> Task:
    spec = {"game": str(game.path), "sha256": hashlib.sha256((root / game.path).read_bytes()).hexdigest()}
    return Task("t", "alfworld", "test", CATEGORY[game.goal.task_type], game.sentence, spec)


def content(root: Path, game: Game) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((root / game.path).read_text())
    return loaded


def digest(engine: Engine, game: Path, steps: int) -> str:
    def shown(frame: Frame) -> stock_alfworld.Shown:
        return frame.text, list(frame.admissible), frame.won

    first = engine.start(json.loads(game.read_text()))
    return stock_alfworld.walk(game, shown(first), lambda command: shown(engine.step(command)), steps)


def assert_equals_stock(engine: Engine, games: list[Path], steps: int) -> None:
    ours = [digest(engine, game, steps) for game in games]
    stock = subprocess.run(
        [sys.executable, stock_alfworld.__file__, str(steps), *map(str, games)], capture_output=True, text=True
    )
    assert stock.returncode == 0, stock.stderr
    assert ours == stock.stdout.split()


def test_shows_what_the_stock_engine_shows_in_one_game(engine: Engine, root: Path, heat: Game) -> None:
    assert_equals_stock(engine, [root / heat.path], steps=8)


def test_shows_what_the_stock_engine_shows_in_a_game_as_released(engine: Engine, tmp_path: Path, heat: Game) -> None:
    released = write_official(tmp_path, {"valid_unseen": {heat.goal: 1}})
    assert_equals_stock(engine, list(released.rglob("game.tw-pddl")), steps=40)


@pytest.mark.slow
def test_shows_what_the_stock_engine_shows_in_all_task_types(engine: Engine, tmp_path: Path) -> None:
    games = [
        write_game(tmp_path, generate_game(11, "p", task_type, index=0, unseen=unseen))
        for task_type in CATEGORY
        for unseen in (False, True)
    ]
    assert_equals_stock(engine, games, steps=40)


def test_plays_a_game_through_to_its_reward(environment: AlfworldEnvironment, root: Path, heat: Game) -> None:
    seen = environment.reset(as_task(root, heat))
    assert seen.text.startswith("You are in the middle of a room.")
    assert seen.text.endswith(f"\n\nYour task is to: {heat.sentence}.")
    assert list(seen.admissible) == sorted(set(seen.admissible))
    for command in heat.walkthrough:
        assert (seen.reward, seen.done) == (0.0, False)
        assert command in seen.admissible
        seen = environment.step(command)
        assert seen.valid
    assert (seen.reward, seen.done) == (1.0, True)
    assert heat.walkthrough[-1].startswith("move ")


@pytest.mark.parametrize("command", ["go to the moon", "Look", "look.", "go to  fridge 1", ""])
def test_refuses_what_is_not_admissible_and_changes_nothing(
    environment: AlfworldEnvironment, root: Path, heat: Game, command: str
) -> None:
    before = environment.reset(as_task(root, heat))
    refused = environment.step(command)
    assert (refused.text, refused.valid, refused.done) == ("Nothing happens.", False, False)
    assert refused.admissible == before.admissible


def test_starts_afresh_when_reset_in_the_middle(environment: AlfworldEnvironment, root: Path, heat: Game) -> None:
    task = as_task(root, heat)
    first = environment.reset(task)
    for command in heat.walkthrough[:4]:
        environment.step(command)
    assert environment.reset(task) == first


def test_step_before_reset_is_an_error(environment: AlfworldEnvironment) -> None:
    with pytest.raises(RuntimeError, match="reset"):
        environment.step("look")


def test_tampered_game_is_a_fault_that_names_file_and_hashes(
    environment: AlfworldEnvironment, root: Path, tmp_path: Path, heat: Game
) -> None:
    task = as_task(root, heat)
    path = write_game(tmp_path, heat)
    path.write_text(path.read_text() + " ")
    tampered = AlfworldEnvironment(tmp_path, tmp_path / "cache")
    with pytest.raises(EnvironmentFault) as fault:
        tampered.reset(task)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    for part in (str(path), task.spec["sha256"], found, "dvc"):
        assert part in str(fault.value)
    with pytest.raises(RuntimeError, match="reset"):
        tampered.step("look")


def test_missing_and_broken_games_are_faults(tmp_path: Path, cache: Path, heat: Game) -> None:
    environment = AlfworldEnvironment(tmp_path, cache)
    path = tmp_path / heat.path
    with pytest.raises(EnvironmentFault, match=r"game\.tw-pddl: the game can't be read"):
        environment.reset(Task("t", "alfworld", "test", "heat", "", {"game": str(heat.path), "sha256": ""}))
    path.parent.mkdir(parents=True)
    for text, complaint in {"{": "is a JSON file", "{}": "does not start"}.items():
        path.write_text(text)
        with pytest.raises(EnvironmentFault, match=complaint):
            environment.reset(as_task(tmp_path, heat))


def test_old_data_are_played_with_move(engine: Engine, root: Path, heat: Game) -> None:
    old = content(root, heat)
    frames = [engine.start(old), *(engine.step(command) for command in heat.walkthrough)]
    for new_words, old_words in {
        "move {o} to {r}": "put {o} in/on {r}",
        "You move the {o.name} to the {r.name}.": "You put the {o.name} in/on the {r.name}.",
        "You arrive at {r.name}.": "You arrive at {lend.name}.",
    }.items():
        assert new_words in old["grammar"]
        old["grammar"] = old["grammar"].replace(new_words, old_words)
    assert [engine.start(old), *(engine.step(command) for command in heat.walkthrough)] == frames


@pytest.mark.parametrize("damage", ["cut short", "no gzip", "another shape", "one bit"])
def test_damaged_cache_file_is_made_anew(root: Path, tmp_path: Path, heat: Game, damage: str) -> None:
    game = content(root, heat)
    cache = TranslationCache(tmp_path)
    whole = cache.get(game["pddl_domain"], game["pddl_problem"])
    path = cache.path(game["pddl_domain"], game["pddl_problem"])
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(
        {
            "cut short": data[:middle],
            "no gzip": b"nonsense",
            "another shape": gzip.compress(b'{"sas": ""}'),
            "one bit": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        }[damage]
    )
    assert cache.get(game["pddl_domain"], game["pddl_problem"]) == whole
    assert path.read_bytes() == data
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_translates_a_game_only_once(root: Path, tmp_path: Path, heat: Game, monkeypatch: pytest.MonkeyPatch) -> None:
    game = content(root, heat)
    first = TranslationCache(tmp_path).get(game["pddl_domain"], game["pddl_problem"])
    monkeypatch.setattr("stages.envs.alfworld.translation.translate", lambda *_: pytest.fail("translated again"))
    assert TranslationCache(tmp_path).get(game["pddl_domain"], game["pddl_problem"]) == first


def test_importing_alfworld_makes_no_folder_in_the_users_home(tmp_path: Path) -> None:
    environ = {k: v for k, v in os.environ.items() if k != "ALFWORLD_DATA"} | {"HOME": str(tmp_path)}
    code = "import stages.envs.alfworld.environment"
    subprocess.run([sys.executable, "-c", code], env=environ, cwd=Path(__file__).parents[1], check=True)
    assert not (tmp_path / ".cache" / "alfworld").exists()
