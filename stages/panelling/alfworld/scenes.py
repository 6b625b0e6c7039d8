"""Rooms to play in: ALFRED's floor plans, furnished at random.

The floor plans are those the alfworld wheel ships (120 scenes: the classes of things in the room, the poses an agent
takes in front of most receptacles, the points where it can stand). Which object stands where is drawn here.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import alfworld.gen
import numpy as np
from alfworld.gen import constants

ROOMS: dict[str, range] = {
    "Kitchen": range(1, 31),
    "LivingRoom": range(201, 231),
    "Bedroom": range(301, 331),
    "Bathroom": range(401, 431),
}
UNSEEN_SCENES = frozenset({10, 219, 308, 424})
"""The scenes of ALFWorld's official valid_unseen split, one a room kind."""

Pose = tuple[int, int, int, int]
"""Where the agent stands and looks: x and z in steps of 0.25 m, rotation in quarter turns, horizon in degrees."""

GRID = 0.25
LAMP = "DeskLamp"
LAMP_STANDS = ("Desk", "SideTable", "Dresser", "CoffeeTable", "DiningTable", "Shelf")

STATIC_RECEPTACLES = frozenset(constants.RECEPTACLES) - frozenset(constants.MOVABLE_RECEPTACLES) - {"PaintingHanger"}

# Listed among a floor plan's objects, but part of the room: nobody picks them up, so the text world leaves them out.
FIXTURES = frozenset(
    {
        "Bathtub",
        "Blinds",
        "Chair",
        "Curtains",
        "DeskLamp",
        "FloorLamp",
        "Footstool",
        "HousePlant",
        "LaundryHamperLid",
        "LightSwitch",
        "Mirror",
        "Painting",
        "Poster",
        "ShowerDoor",
        "ShowerGlass",
        "Sink",
        "StoveKnob",
        "Television",
        "Window",
    }
)

# Receptacles that floor plans name without a pose: how many to set up, and how high they stand in metres.
UNPOSED: dict[str, tuple[int, float]] = {
    "Cabinet": (2, 0.50),
    "CoffeeMachine": (1, 0.90),
    "Drawer": (2, 0.60),
    "GarbageCan": (1, 0.00),
    "HandTowelHolder": (1, 1.30),
    "LaundryHamper": (1, 0.00),
    "Ottoman": (1, 0.00),
    "Safe": (1, 0.30),
    "Shelf": (2, 1.10),
    "SinkBasin": (1, 0.80),
    "StoveBurner": (4, 0.92),
    "Toaster": (1, 0.90),
    "Toilet": (1, 0.00),
    "ToiletPaperHanger": (1, 0.70),
    "TowelHolder": (1, 1.30),
}

# How readily an object is found in a class of receptacle; 1 where nothing is said. Surfaces more than bins and ovens,
# so that rooms look lived in and most things can be found without opening every door.
HOME_WEIGHT: dict[str, float] = {
    "BathtubBasin": 0.3,
    "Bed": 2.0,
    "Cabinet": 0.8,
    "CoffeeMachine": 0.5,
    "CoffeeTable": 2.0,
    "CounterTop": 3.0,
    "Desk": 3.0,
    "DiningTable": 3.0,
    "Drawer": 0.8,
    "Dresser": 2.0,
    "Fridge": 2.0,
    "GarbageCan": 0.15,
    "HandTowelHolder": 4.0,
    "Microwave": 0.25,
    "Safe": 0.5,
    "Shelf": 1.2,
    "SideTable": 2.0,
    "SinkBasin": 0.5,
    "Sofa": 2.0,
    "Toilet": 0.3,
    "TowelHolder": 4.0,
}
COPIES, COPY_WEIGHTS = (1, 2, 3), (5, 3, 2)


@dataclass(frozen=True)
class FloorPlan:
    """One scene as shipped: its receptacles and objects by class, the known poses, and where an agent can stand."""

    scene: int
    receptacles: tuple[str, ...]
    objects: tuple[str, ...]
    has_lamp: bool
    poses: dict[str, Pose]
    points: tuple[tuple[float, float], ...]

    def homes(self, kind: str) -> list[str]:
        """The classes of receptacles in this scene where an object of class `kind` may be."""
        return [r for r in self.receptacles if can_hold(r, kind)]


@dataclass(frozen=True)
class Receptacle:
    kind: str
    pose: Pose


@dataclass(frozen=True)
class Item:
    kind: str
    receptacle: str


@dataclass
class World:
    """A furnished scene: receptacles and objects by ALFRED id (`Class|x|y|z`), and where the agent starts."""

    scene: int
    start: Pose
    receptacles: dict[str, Receptacle]
    items: dict[str, Item] = field(default_factory=dict)

    def receptacles_of(self, kind: str) -> list[str]:
        return sorted(i for i, r in self.receptacles.items() if r.kind == kind)

    def items_of(self, kind: str) -> list[str]:
        return sorted(i for i, item in self.items.items() if item.kind == kind)


def can_hold(receptacle: str, kind: str) -> bool:
    """Whether ALFRED lets an object of class `kind` lie in a receptacle of that class."""
    return kind in constants.VAL_RECEPTACLE_OBJECTS.get(receptacle, ())


def scenes(rooms: set[str], unseen: bool) -> list[int]:
    """The scenes of these room kinds, from the official unseen ones or from all others."""
    return [s for room in sorted(rooms) for s in ROOMS[room] if (s in UNSEEN_SCENES) == unseen]


@cache
def read_floor_plan(scene: int) -> FloorPlan:
    """A floor plan from the alfworld wheel. Receptacles that it names without a pose are listed all the same."""
    base = Path(next(iter(alfworld.gen.__path__))) / "layouts"
    names = json.loads((base / f"FloorPlan{scene}-objects.json").read_text())
    posed = json.loads((base / f"FloorPlan{scene}-openable.json").read_text())
    points = np.load(base / f"FloorPlan{scene}-layout.npy").tolist()
    poses = {
        name: (*_cell(x, z), round(rotation / 90), round(horizon))
        for name, (x, z, rotation, horizon) in sorted(posed.items())
        if class_of(name) in STATIC_RECEPTACLES
    }
    unposed = {n for n in names if n in UNPOSED}
    receptacles = {class_of(name) for name in poses} | unposed
    objects = {n for n in names if n in constants.OBJECTS} - STATIC_RECEPTACLES - FIXTURES
    return FloorPlan(
        scene=scene,
        receptacles=tuple(sorted(receptacles)),
        objects=tuple(sorted(o for o in objects if any(can_hold(r, o) for r in receptacles))),
        has_lamp=LAMP in names and any(r in receptacles for r in LAMP_STANDS),
        poses=poses,
        points=tuple(sorted((x, z) for x, z in points)),
    )


def class_of(name: str) -> str:
    """The class in an ALFRED id: `Drawer|+00.64|+00.27|-00.65`, but `Sink|...|SinkBasin` is a SinkBasin."""
    parts = name.split("|")
    return parts[-1] if len(parts) == 5 else parts[0]


def build_world(plan: FloorPlan, rng: random.Random, target: str, at_least: int, keep_out: str) -> World:
    """Furnish a scene for a task.

    There will be `at_least` objects of class `target`, and none of them in a receptacle of class `keep_out` (empty:
    anywhere), so that the task is not done before it starts.
    """
    receptacles = _set_up_receptacles(plan, rng)
    taken = {r.pose for r in receptacles.values()}
    stands = [(*_cell(x, z), turn, 30) for x, z in plan.points for turn in range(4)]
    world = World(plan.scene, rng.choice([s for s in stands if s not in taken]), receptacles)
    if plan.has_lamp:
        stand = next(r for r in LAMP_STANDS if r in plan.receptacles)
        _put(world, LAMP, rng.choice(world.receptacles_of(stand)), rng)
    for kind in plan.objects:
        copies = rng.choices(COPIES, COPY_WEIGHTS)[0]
        homes = plan.homes(kind)
        if kind == target:
            copies = max(copies, at_least)
            homes = [h for h in homes if h != keep_out]
        for _ in range(copies):
            _put(world, kind, _draw_home(world, homes, rng), rng)
    return world


def _set_up_receptacles(plan: FloorPlan, rng: random.Random) -> dict[str, Receptacle]:
    """All receptacles, each with a pose of its own: for the engine, someone at one is at all others of its pose."""
    wanted = dict(plan.poses)
    occupied = {pose[:2] for pose in wanted.values()}
    posed = {class_of(name) for name in wanted}
    for kind in plan.receptacles:
        if kind not in posed:
            free = [p for p in plan.points if _cell(*p) not in occupied]
            point, turn = rng.choice(free or list(plan.points)), rng.randrange(4)
            occupied.add(_cell(*point))
            for name in _fresh_names(kind, point, turn):
                wanted[name] = (*_cell(*point), turn, 45)
    result: dict[str, Receptacle] = {}
    taken: set[Pose] = set()
    for name, pose in sorted(wanted.items()):
        while pose in taken:
            pose = (*pose[:3], pose[3] + 5)
        taken.add(pose)
        result[name] = Receptacle(class_of(name), pose)
    return result


def _fresh_names(kind: str, point: tuple[float, float], turn: int) -> list[str]:
    """Ids of the receptacles of a class that has no place in the floor plan, an arm's length in front of `point`."""
    count, height = UNPOSED[kind]
    ahead_x, ahead_z = [(0.0, 0.6), (0.6, 0.0), (0.0, -0.6), (-0.6, 0.0)][turn]
    names = []
    for k in range(count):
        x, z = point[0] + ahead_x + (k % 2) * 0.28, point[1] + ahead_z + (k // 2) * 0.27
        names.append(_name("Sink", x, height, z) + "|SinkBasin" if kind == "SinkBasin" else _name(kind, x, height, z))
    return names


def _draw_home(world: World, homes: list[str], rng: random.Random) -> str:
    """A receptacle of one of these classes, by the class's weight and, weakly, by how many of the class there are."""
    places = [(name, home) for home in homes for name in world.receptacles_of(home)]
    number = {home: sum(1 for _, h in places if h == home) for home in homes}
    weights = [HOME_WEIGHT.get(home, 1.0) / number[home] ** 0.5 for _, home in places]
    return rng.choices([name for name, _ in places], weights)[0]


def _put(world: World, kind: str, receptacle: str, rng: random.Random) -> None:
    x, y, z = (float(v) for v in receptacle.split("|")[1:4])
    while True:  # an id is a place: two objects of a class need two
        name = _name(kind, x + rng.uniform(-0.3, 0.3), y + 0.05, z + rng.uniform(-0.3, 0.3))
        if name not in world.items:
            world.items[name] = Item(kind, receptacle)
            return


def _cell(x: float, z: float) -> tuple[int, int]:
    return round(x / GRID), round(z / GRID)


def _name(kind: str, *place: float) -> str:
    """An ALFRED id: sign, two digits, two decimals; zero has no sign."""
    return "|".join([kind, *("00.00" if abs(v) < 0.005 else f"{v:+06.2f}" for v in place)])
