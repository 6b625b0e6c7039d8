"""Arms, each a way to make students, and the systems that play: the one place that says what each name means.

A name's meaning never changes, as results are known by it: another way of teaching gets another name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Retrieval = Literal["rag", "constant", "random", "rag_wrong", "oracle"]
"""How hints are chosen; what each of them means is in `stages.retrieval.retriever`."""

Learning = Literal["sft", "on_policy"]


@dataclass(frozen=True)
class Arm:
    """How the students of an arm are taught, and whether they play with hints.

    `teacher` is how the teacher's hints are chosen; None: it has none, and the base agent's own successes are learnt. `learning` is `sft`, the
    likelihood of the replies in successes, or `on_policy`: on the base agent's own replies, failures included, the distribution that the base
    has with the teacher's hints. `hinted`: the hints stay in the lessons, and the students are shown hints chosen in the same way.
    """

    teacher: Retrieval | None = None
    learning: Learning = "sft"
    hinted: bool = False


ARMS: Mapping[str, Arm] = {
    "sft": Arm(),
    "distilled": Arm(teacher="rag"),
    "distilled_random": Arm(teacher="random"),
    "hinted": Arm(teacher="rag", hinted=True),
    "on_policy": Arm(teacher="rag", learning="on_policy"),
}


def teachers(arms: Iterable[str]) -> list[Retrieval]:
    """How the teachers that these arms need choose their hints; the task's own hints are always among these, for the funnel counts that teacher."""
    needed = (ARMS[arm].teacher for arm in arms)
    return list(dict.fromkeys(["rag", *(way for way in needed if way)]))


def teacher_name(way: Retrieval) -> str:
    """A teacher's name in figures and pages: `teacher`, and of one with other than the tasks' own hints `teacher_random`."""
    return "teacher" if way == "rag" else f"teacher_{way}"


def base_cell(student: str) -> str:
    """The cell of a student, `<cell>_<arm>_s<seed>`, that may be a later round's base: one that plays without hints. Raises `ValueError` for any other."""
    for name, arm in ARMS.items():
        cell, found, seed = student.rpartition(f"_{name}_s")
        if found and seed.isdecimal() and not arm.hinted:
            return cell
    raise ValueError(f"{student!r} is no student that plays without hints: <cell>_<arm>_s<seed> is expected")


@dataclass(frozen=True)
class Player:
    """What plays as a system: the student of an arm, or the base agent where `arm` is empty; `retrieval` is empty where no hints are shown."""

    arm: str = ""
    retrieval: Retrieval | Literal[""] = ""


def aided(arm: str) -> str:
    """The system that an arm's students are when they are shown hints, though they were taught to do without."""
    return f"{arm}_rag"


SYSTEMS: Mapping[str, Player] = {
    "base": Player(),
    **{way: Player(retrieval=way) for way in get_args(Retrieval)},
    **{name: Player(name, arm.teacher or "" if arm.hinted else "") for name, arm in ARMS.items()},
    **{aided(name): Player(name, "rag") for name, arm in ARMS.items() if not arm.hinted},
}
"""Every system by its name."""

STUDENTS = tuple(name for name, player in SYSTEMS.items() if player.arm)
"""The systems that a student plays, whose figures depend on a training seed."""
