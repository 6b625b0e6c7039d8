"""Generated games: the same everywhere, all task types and rooms, nothing done before it starts."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stages.envs.alfworld import CATEGORY
from stages.panelling.alfworld.generator import Game, generate_game, possible_goals, write_game
from stages.panelling.alfworld.scenes import ROOMS, UNSEEN_SCENES

REPOSITORY = Path(__file__).parents[1]
SIX = sorted(CATEGORY)
DIGEST = """
import hashlib
from stages.envs.alfworld import CATEGORY
from stages.panelling.alfworld.generator import generate_game
games = [generate_game(5, "train", t, i, u) for t in sorted(CATEGORY) for i in range(2) for u in (False, True)]
print(hashlib.sha256(repr(games).encode()).hexdigest())
"""


def draw(task_type: str, number: int, unseen: bool = False) -> list[Game]:
    return [generate_game(1, "panel", task_type, index, unseen) for index in range(number)]


def facts(game: Game, predicate: str) -> list[list[str]]:
    """The arguments of all initial facts of a predicate."""
    found = re.findall(rf"\({predicate} ([^()]+)\)", game.files["initial_state.pddl"].split("(:goal")[0])
    return [arguments.split() for arguments in found]


def test_same_bytes_in_any_process() -> None:
    digests = set()
    for hash_seed in ("0", "1", "424242"):
        run = subprocess.run(
            [sys.executable, "-c", DIGEST],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(run.stdout)
    assert len(digests) == 1


def test_every_argument_changes_the_game() -> None:
    arguments = {"seed": 1, "panel": "train", "task_type": "pick_and_place_simple", "index": 0, "unseen": False}
    others = {"seed": 2, "panel": "dev", "task_type": "pick_two_obj_and_place", "index": 1, "unseen": True}
    games = [generate_game(**(arguments | {k: others[k]})) for k in others]  # type: ignore[arg-type]
    worlds = {re.sub("plan_trial[^)]*", "", g.files["initial_state.pddl"]) for g in games}
    assert len(worlds) == len(others)


@pytest.mark.parametrize("task_type", SIX)
def test_is_laid_out_as_official_games_are(task_type: str, tmp_path: Path) -> None:
    game = generate_game(1, "train", task_type, 7, unseen=False)
    path = write_game(tmp_path, game)
    goal, folder = game.goal, path.parent
    assert folder.parent.name == f"{task_type}-{goal.object}-None-{goal.receptacle}-{goal.scene}"
    assert folder.name == "trial_train_1_00007"
    assert sorted(p.name for p in folder.iterdir()) == ["game.tw-pddl", "initial_state.pddl", "traj_data.json"]
    parameters = json.loads((folder / "traj_data.json").read_text())["pddl_params"]
    assert parameters["object_target"] == goal.object
    assert goal.receptacle in (parameters["parent_target"], parameters["toggle_target"])
    written = json.loads(path.read_text())
    assert written["solvable"] is True
    assert written["pddl_problem"] == (folder / "initial_state.pddl").read_text()
    assert f"Your task is to: {game.sentence}." in written["grammar"]
    assert goal.object.lower() in game.sentence.split()


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("task_type", SIX)
def test_scenes_are_the_official_split(task_type: str, unseen: bool) -> None:
    scenes = {goal.scene for goal in possible_goals(task_type, unseen)}
    assert scenes
    assert scenes <= UNSEEN_SCENES if unseen else scenes.isdisjoint(UNSEEN_SCENES)
    assert all(game.goal.scene in scenes for game in draw(task_type, 5, unseen))


def test_plays_in_all_four_kinds_of_rooms() -> None:
    scenes = {game.goal.scene for game in draw("pick_and_place_simple", 40)}
    assert all(scenes & set(numbers) for numbers in ROOMS.values())


@pytest.mark.parametrize("unseen", [False, True])
@pytest.mark.parametrize("task_type", SIX)
def test_there_is_something_to_do(task_type: str, unseen: bool) -> None:
    for game in draw(task_type, 10, unseen):
        kinds = {name: kind.removesuffix("Type") for name, kind in facts(game, "(?:object|receptacle)Type")}
        targets = [name for name, kind in kinds.items() if kind == game.goal.object]
        assert len(targets) >= (2 if task_type == "pick_two_obj_and_place" else 1)
        homes = [kinds[home] for name, home in facts(game, "inReceptacle") if name in targets]
        assert len(homes) == len(targets)
        assert game.goal.receptacle not in homes


@pytest.mark.parametrize("task_type", SIX)
def test_no_two_receptacles_share_a_pose(task_type: str) -> None:
    for game in draw(task_type, 10):
        poses = [pose for _, pose in facts(game, "receptacleAtLocation")]
        start = facts(game, "atLocation")[0][1]
        assert len(set(poses)) == len(poses) > 3
        assert start not in poses


def test_goals_can_be_narrowed() -> None:
    wanted = possible_goals("look_at_obj_in_light", unseen=True)[:2]
    drawn = {generate_game(1, "p", "look_at_obj_in_light", i, True, wanted).goal for i in range(12)}
    assert drawn == set(wanted)


@pytest.mark.parametrize("goals", [[], possible_goals("pick_and_place_simple", unseen=True)[:1]])
def test_refuses_goals_it_cannot_draw(goals: list[object]) -> None:
    with pytest.raises(ValueError, match="panel 'p': no goal to draw"):
        generate_game(1, "p", "look_at_obj_in_light", 0, True, goals)  # type: ignore[arg-type]


def test_refuses_an_unknown_task_type() -> None:
    with pytest.raises(ValueError, match="'sing' is unknown; known are look_at_obj_in_light"):
        generate_game(1, "p", "sing", 0, False)


def test_draws_nothing_from_the_global_generator() -> None:
    code = (
        "import random; from stages.panelling.alfworld.generator import generate_game; before = random.getstate(); "
        "generate_game(1, 'p', 'pick_and_place_simple', 0, False); assert random.getstate() == before"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_a_changed_generator_is_noticed() -> None:
    """Panels are frozen: if this fails, games have changed, and `_VERSION` in the generator must change with them."""
    text = "".join(game.files["initial_state.pddl"] + game.sentence for t in SIX for game in draw(t, 2))
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "a127ed33ea60c0001069173396243384cb252dbb294b25e9af6483e01c34496a"
    )
