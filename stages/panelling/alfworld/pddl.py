"""A world and a goal as the PDDL problem that ALFWorld's games hold, sections in the official order."""

from __future__ import annotations

import re

from alfworld.gen import constants

from stages.panelling.alfworld.scenes import Pose, World

INDENT = "\n        "
_ESCAPES = {"-": "_minus_", "#": "-", "|": "_bar_", "+": "_plus_", ".": "_dot_", ",": "_comma_"}
_OPENABLE = frozenset(constants.OPENABLE_CLASS_SET)
_PROPERTIES = {name.lower(): frozenset(kinds) for name, kinds in constants.VAL_ACTION_OBJECTS.items()}


def escape(text: str) -> str:
    """PDDL names hold no signs, bars or dots; `#` stands for the dash before a type."""
    return re.sub(r"[-#|+.,]", lambda m: _ESCAPES[m.group()], text)


def display_names(world: World) -> dict[str, str]:
    """What the engine calls each thing (`sinkbasin 1`), by ALFRED id.

    As alfworld's Demangler has it: the things of a class in the order of their PDDL names, numbered backwards.
    """
    by_class: dict[str, list[str]] = {}
    for name in [*world.receptacles, *world.items]:
        label = name.split("|")[0].lower() + ("basin" if "basin" in name.lower() else "")
        by_class.setdefault(label, []).append(name)
    names: dict[str, str] = {}
    for label, members in by_class.items():
        ordered = sorted(members, key=lambda n: escape(n).lower())
        names |= {name: f"{label} {len(ordered) - k}" for k, name in enumerate(ordered)}
    return names


def problem(world: World, goal: str, problem_id: str) -> str:
    """The PDDL problem; `goal` is the goal section of alfworld's goal library with its blanks filled in."""
    head = f"\n(define (problem plan_{problem_id})\n(:domain alfred)\n(:objects\nagent1 # agent\n"
    init = INDENT.join(INDENT.join(section) for section in _initial_facts(world) if section)
    return (
        escape(f"{head}{_constants()}\n\n{_objects(world)}\n")
        + escape(f"\n(:init\n{INDENT}{init}{INDENT})\n    ")
        + "\n"
        + escape(goal)
    )


def _constants() -> str:
    receptacle_kinds = sorted(set(constants.RECEPTACLES) - set(constants.MOVABLE_RECEPTACLES))
    object_kinds = sorted(set(constants.OBJECTS_SET) - set(receptacle_kinds))
    sections = (
        [f"{kind} # object" for kind in object_kinds],
        [f"{kind}Type # otype" for kind in object_kinds],
        [f"{kind}Type # rtype" for kind in receptacle_kinds],
    )
    return "\n".join(INDENT.join(section) for section in sections)


def _objects(world: World) -> str:
    places = sorted({r.pose for r in world.receptacles.values()} - {world.start})
    sections = (
        [f"{name} # object" for name in sorted(world.items)],
        [f"{name} # receptacle" for name in sorted(world.receptacles)],
        [f"{_location(pose)} # location" for pose in [*places, world.start]],
    )
    return f"\n{INDENT}" + INDENT.join(INDENT.join(section) for section in sections) + f"{INDENT})\n"


def _initial_facts(world: World) -> list[list[str]]:
    receptacles, items = sorted(world.receptacles.items()), sorted(world.items.items())
    present = {item.kind for item in world.items.values()}

    def having(quality: str) -> list[str]:
        return [f"({quality} {name})" for name, item in items if item.kind in _PROPERTIES[quality]]

    return [
        [f"(receptacleType {name} {r.kind}Type)" for name, r in receptacles],
        [f"(objectType {name} {item.kind}Type)" for name, item in items],
        [
            f"(canContain {kind}Type {content}Type)"
            for kind in sorted({r.kind for r in world.receptacles.values()})
            for content in sorted(present & set(constants.VAL_RECEPTACLE_OBJECTS.get(kind, ())))
        ],
        [f"(pickupable {name})" for name, item in items if item.kind not in _PROPERTIES["toggleable"]],
        [f"(isReceptacleObject {name})" for name, item in items if item.kind in constants.MOVABLE_RECEPTACLES_SET],
        [f"(openable {name})" for name, r in receptacles if r.kind in _OPENABLE],
        [f"(atLocation agent1 {_location(world.start)})"],
        having("cleanable"),
        having("heatable"),
        having("coolable"),
        having("toggleable"),
        having("sliceable"),
        [f"(inReceptacle {name} {item.receptacle})" for name, item in items],
        [f"(receptacleAtLocation {name} {_location(r.pose)})" for name, r in receptacles],
        [f"(objectAtLocation {name} {_location(world.receptacles[item.receptacle].pose)})" for name, item in items],
    ]


def _location(pose: Pose) -> str:
    return "loc|{}|{}|{}|{}".format(*pose)
