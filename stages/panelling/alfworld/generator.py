"""Generated ALFWorld games: all six task types, laid out on disk as the official ones are.

The official games come from a download; these are made from what the alfworld wheel ships (floor plans, constants, goal
library, domain and grammar), so that the pipeline runs without it. Every draw comes from `random.Random` seeded with a
string: the same arguments give the same bytes in any process. Scores on these games are not ALFWorld benchmark figures.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from alfworld.gen import constants, goal_library
from alfworld.info import ALFRED_PDDL_PATH, ALFRED_TWL2_PATH

from stages.envs.alfworld import CATEGORY
from stages.panelling.alfworld import pddl, scenes
from stages.panelling.alfworld.scenes import FloorPlan, World

GAME_FILE = "game.tw-pddl"
_VERSION = "alfworld-game-1"  # part of every seed: raise it when the same arguments come to give another game
# Task types with an intermediate step: what is done, where, and what an object must allow.
_TREATMENT = {
    "pick_clean_then_place_in_recep": ("clean", "SinkBasin", "Cleanable"),
    "pick_heat_then_place_in_recep": ("heat", "Microwave", "Heatable"),
    "pick_cool_then_place_in_recep": ("cool", "Fridge", "Coolable"),
}
_WASHING_PLACES = frozenset({"SinkBasin", "BathtubBasin"})


class Goal(NamedTuple):
    """What a game asks for: two games with equal goals differ only in how the room is furnished.

    `receptacle` is where the object goes, or the lamp to look at it under.
    """

    task_type: str
    scene: int
    object: str
    receptacle: str


@dataclass(frozen=True)
class Game:
    """A game as its three files.

    `path` is the game file's path under a panel's games folder; `files` maps names in its folder to their text;
    `sentence` is the task as the agent reads it; `walkthrough` are commands that win, known from how the room was
    furnished (an agent has to search).
    """

    path: PurePosixPath
    goal: Goal
    sentence: str
    walkthrough: tuple[str, ...]
    files: dict[str, str]


@cache
def possible_goals(task_type: str, unseen: bool) -> tuple[Goal, ...]:
    """Every goal that this task type has in the official unseen scenes or in all others, sorted.

    Raises ValueError for an unknown task type.
    """
    if task_type not in CATEGORY:
        raise ValueError(f"task type {task_type!r} is unknown; known are {', '.join(sorted(CATEGORY))}")
    numbers = scenes.scenes(constants.GOALS_VALID[task_type], unseen)
    return tuple(sorted(g for n in numbers for g in _goals_in(scenes.read_floor_plan(n), task_type)))


def generate_game(
    seed: int, panel: str, task_type: str, index: int, unseen: bool, goals: Iterable[Goal] | None = None
) -> Game:
    """One game, a function of its arguments alone; `goals` narrows what may be asked (default: all that is possible).

    Scene, goal receptacle and object are drawn in this order, each evenly, so that the receptacles that hold anything
    (tables, counters) don't crowd out the others. Raises ValueError if no goal is left to draw.
    """
    pool = sorted(possible_goals(task_type, unseen) if goals is None else goals)
    if not pool or any(g.task_type != task_type for g in pool):
        raise ValueError(f"panel {panel!r}: no goal to draw for task type {task_type!r} (unseen scenes: {unseen})")
    rng = random.Random(f"{_VERSION}|{seed}|{panel}|{task_type}|{index}|{unseen}")
    scene = rng.choice(sorted({g.scene for g in pool}))
    receptacle = rng.choice(sorted({g.receptacle for g in pool if g.scene == scene}))
    goal = rng.choice([g for g in pool if (g.scene, g.receptacle) == (scene, receptacle)])
    world = scenes.build_world(
        scenes.read_floor_plan(scene),
        rng,
        target=goal.object,
        at_least=2 if task_type == "pick_two_obj_and_place" else 1,
        keep_out=goal.receptacle,
    )
    return _assemble(world, goal, rng, panel, trial=f"trial_{panel}_{seed}_{index:05d}")


def write_game(root: Path, game: Game) -> Path:
    """Write a game's files under `root`; returns the path of the game file."""
    folder = root / game.path.parent
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in game.files.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    return root / game.path


def _goals_in(plan: FloorPlan, task_type: str) -> list[Goal]:
    if task_type == "look_at_obj_in_light":
        return [Goal(task_type, plan.scene, o, scenes.LAMP) for o in plan.objects] if plan.has_lamp else []
    objects, forbidden = plan.objects, frozenset[str]()
    if task_type in _TREATMENT:
        _, tool, quality = _TREATMENT[task_type]
        if tool not in plan.receptacles:
            return []
        objects = tuple(o for o in objects if o in constants.VAL_ACTION_OBJECTS[quality])
        forbidden = _WASHING_PLACES if tool in _WASHING_PLACES else frozenset({tool})
    return [
        Goal(task_type, plan.scene, o, home)
        for o in objects
        for home in plan.homes(o)
        if home not in forbidden and len(plan.homes(o)) > 1  # the object needs another place to be found in
    ]


def _assemble(world: World, goal: Goal, rng: random.Random, panel: str, trial: str) -> Game:
    lamp = goal.receptacle if goal.task_type == "look_at_obj_in_light" else ""
    target = "" if lamp else goal.receptacle
    blanks = {"obj": goal.object, "recep": target, "toggle": lamp, "mrecep": ""}
    library = goal_library.gdict[goal.task_type]
    sentence = rng.choice(library["templates"]).format(**{k: v.lower() for k, v in blanks.items()})
    problem = pddl.problem(world, library["pddl"].format(**blanks), trial)
    walkthrough = _walkthrough(world, goal)
    domain, grammar = _logic()
    game = {
        "pddl_domain": domain,
        "grammar": grammar.replace("UNKNOWN GOAL", sentence),
        "pddl_problem": problem,
        "solvable": True,
        "walkthrough": walkthrough,
    }
    trajectory = {
        "task_id": trial,
        "task_type": goal.task_type,
        "generated": True,
        "pddl_params": {
            "object_target": goal.object,
            "parent_target": target,
            "toggle_target": lamp,
            "mrecep_target": "",
            "object_sliced": False,
        },
        "scene": {"floor_plan": f"FloorPlan{goal.scene}", "scene_num": goal.scene},
        "turk_annotations": {"anns": [{"task_desc": f"{sentence.capitalize()}.", "high_descs": [], "votes": [1]}]},
    }
    folder = f"{goal.task_type}-{goal.object}-None-{goal.receptacle}-{goal.scene}"
    files = {
        "initial_state.pddl": problem,
        "traj_data.json": json.dumps(trajectory, indent=1, sort_keys=True),
        GAME_FILE: json.dumps(game, sort_keys=True),
    }
    return Game(PurePosixPath(panel, folder, trial, GAME_FILE), goal, sentence, tuple(walkthrough), files)


@cache
def _logic() -> tuple[str, str]:
    """The PDDL domain and the text grammar of the installed alfworld (`move X to Y`)."""
    return Path(ALFRED_PDDL_PATH).read_text(encoding="utf-8"), Path(ALFRED_TWL2_PATH).read_text(encoding="utf-8")


class _Route:
    """Commands of someone who knows where everything is."""

    def __init__(self, world: World) -> None:
        self.world, self.names = world, pddl.display_names(world)
        self.commands: list[str] = []
        self._at = ""
        self._opened: set[str] = set()

    def go_to(self, receptacle: str, open_it: bool = True) -> None:
        if receptacle != self._at:
            self.commands.append(f"go to {self.names[receptacle]}")
            self._at = receptacle
        openable = self.world.receptacles[receptacle].kind in constants.OPENABLE_CLASS_SET
        if open_it and openable and receptacle not in self._opened:
            self.commands.append(f"open {self.names[receptacle]}")
            self._opened.add(receptacle)

    def take(self, item: str) -> None:
        home = self.world.items[item].receptacle
        self.go_to(home)
        self.commands.append(f"take {self.names[item]} from {self.names[home]}")


def _walkthrough(world: World, goal: Goal) -> list[str]:
    """Commands that reach the goal, short but not always shortest."""
    route = _Route(world)
    if goal.task_type == "look_at_obj_in_light":
        lamp = world.items_of(scenes.LAMP)[0]
        route.take(world.items_of(goal.object)[0])
        route.go_to(world.items[lamp].receptacle)
        return [*route.commands, f"use {route.names[lamp]}"]
    destination = world.receptacles_of(goal.receptacle)[0]
    for item in world.items_of(goal.object)[: 2 if goal.task_type == "pick_two_obj_and_place" else 1]:
        route.take(item)
        if goal.task_type in _TREATMENT:
            verb, tool, _ = _TREATMENT[goal.task_type]
            place = world.receptacles_of(tool)[0]
            route.go_to(place, open_it=False)
            route.commands.append(f"{verb} {route.names[item]} with {route.names[place]}")
        route.go_to(destination)
        route.commands.append(f"move {route.names[item]} to {route.names[destination]}")
    return route.commands
