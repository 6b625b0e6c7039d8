"""`python -m stages rounds`: later rounds, whose base is a student of the round before.

Each round is a DVC experiment of this commit with `before` set: the student plays the train panel, fails at other games, and what is
learnt from these makes the round's students.
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from typing import Any

from stages.core.arms import base_cell
from stages.core.params import Cell, load
from stages.core.process import Fault
from stages.core.sections import Before
from stages.viewing.revisions import Revision, find_revision, started_from

_ITS_OWN = ("axes.", "agent.shots.", "before")  # settings in which rounds may differ


class RoundError(Fault, RuntimeError):
    """A round cannot be run: says why."""


def add_parser(commands: Any) -> None:
    """The command's own arguments."""
    parser = commands.add_parser("rounds", help="later rounds, whose base is a student of the round before")
    parser.add_argument("student", help="its folder in data/students, such as alfworld_react_distilled_s0")
    parser.add_argument(
        "--rounds", type=int, default=2, help="how many there are in the end, the first among them (default: 2)"
    )
    parser.add_argument(
        "--after", default="HEAD", metavar="REV", help="commit or experiment of the round before (default: HEAD)"
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Run the rounds that are missing, and name the experiments. Raises `RoundError` where there is none to run or one fails."""
    cell = cell_of(args.student)
    last, head = find_revision(args.after), find_revision("HEAD")
    check_settings(last)
    done = rounds_at(last)
    if done >= args.rounds:
        raise RoundError(f"--rounds {args.rounds}: {args.after} is round {done}; ask for more")
    shown = [last.commit[:12]]
    for number in range(done + 1, args.rounds + 1):
        name, before = f"round{number}_{args.student}", Before(commit=last.commit, student=args.student)
        if name not in started_from(head):
            play(name, cell, before)
        last = started_from(head)[name]
        check_base(last, before)
        shown.append(last.commit[:12])
    print(f"rounds: there are {args.rounds}; ./run compare {' '.join(shown)}")
    return 0


def cell_of(student: str) -> Cell:
    """The cell of a student of the workspace's settings. Raises `RoundError` where there is no such student, or it needs hints."""
    axes = load().axes
    try:
        cell = base_cell(student)
    except ValueError as error:
        raise RoundError(str(error)) from error
    named = [f"{cell}_{arm}_s{seed}" for cell in axes.cell for arm in axes.arm for seed in axes.seed]
    if student not in named:
        raise RoundError(f"{student}: no student of this study, which has {', '.join(named)}")
    return Cell(cell)


def check_settings(revision: Revision) -> None:
    """Raise `RoundError` where the round before is no commit, or had other settings than the workspace has."""
    if not revision.commit:
        raise RoundError(
            "--after workspace: a round follows a commit, from which its base can be had again; commit the study"
        )
    here, there = find_revision("workspace").settings, revision.settings
    other = [key for key in sorted(here.keys() | there.keys()) if here.get(key) != there.get(key)]
    if differ := [key for key in other if not key.startswith(_ITS_OWN)]:
        raise RoundError(
            f"params.yaml has other settings than {revision.name} ({', '.join(differ)}), and a round goes on with those of the round before"
        )


def rounds_at(revision: Revision) -> int:
    """Which round a commit is, by the commits that it goes back to."""
    number = 1
    while commit := revision.settings.get("before.commit"):
        revision, number = find_revision(commit), number + 1
    return number


def play(name: str, cell: Cell, before: Before) -> None:
    """Run a round as the experiment of that name. Raises `RoundError` when DVC did not finish it."""
    values = f"{{commit: '{before.commit}', student: '{before.student}'}}"  # Hydra takes no quoted keys
    changes = (f"axes.cell=[{cell}]", f"before={values}", f"agent.shots.{cell.env}=0")
    settings = [part for change in changes for part in ("-S", change)]
    print(f"rounds: {name}, the base is {before.student} of commit {before.commit[:12]}", flush=True)
    done = subprocess.run([sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name, *settings], check=False)
    if done.returncode != 0:
        raise RoundError(f"{name}: DVC did not finish it (exit status {done.returncode}); what it printed says why")


def check_base(experiment: Revision, before: Before) -> None:
    """Raise `RoundError` where an experiment of a round's name has another base."""
    found = {key: experiment.settings.get(f"before.{key}") for key in ("commit", "student")}
    if found != before.model_dump():
        raise RoundError(
            f"the experiment {experiment.name} has another base: {json.dumps(found)}, expected {json.dumps(before.model_dump())}; "
            f"dvc exp remove {experiment.name}"
        )
