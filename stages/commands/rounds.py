"""`python -m stages rounds`: later rounds, whose base is a student of the round before.

Each round is a DVC experiment of this workspace with `rounds` set: its base plays the train panel, fails at other games, and what is
learnt from these makes the round's students.
"""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from typing import Any

import yaml

from stages.core.arms import ARMS
from stages.core.params import PARAMS, Cell, load
from stages.core.process import Fault
from stages.core.sections import Round
from stages.viewing.revisions import experiments, find_revision


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
    commit = find_revision(args.after).commit
    line = [*rounds_at(commit), Round(commit=commit, student=args.student)]
    if len(line) >= args.rounds:
        raise RoundError(f"--rounds {args.rounds}: {args.after} is round {len(line)}; ask for more")
    made = []
    while len(line) < args.rounds:
        made.append(f"round{len(line) + 1}_{args.student}")
        play(made[-1], cell, line)
        line.append(Round(commit=commit_of(made[-1]), student=args.student))
    print(f"rounds: done; ./run compare {args.after} {' '.join(made)}")
    return 0


def cell_of(student: str) -> Cell:
    """The cell of a student of the workspace's settings. Raises `RoundError` where there is no such student."""
    axes = load().axes
    named = {f"{cell}_{arm}_s{seed}": (cell, arm) for cell in axes.cells for arm in axes.arm for seed in axes.seed}
    if student not in named:
        raise RoundError(f"{student}: no student of this study, which has {', '.join(named)}")
    cell, arm = named[student]
    if ARMS[arm].hinted:
        raise RoundError(f"{student}: it learnt to play with hints, and a round's base plays without")
    return cell


def rounds_at(commit: str) -> list[Round]:
    """The students that a commit's base is."""
    done = subprocess.run(["git", "show", f"{commit}:{PARAMS}"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RoundError(f"commit {commit[:12]} has no {PARAMS}: {done.stderr.strip()}")
    return [Round(**one) for one in yaml.safe_load(done.stdout).get("rounds", [])]


def play(name: str, cell: Cell, line: list[Round]) -> None:
    """Run a round as the experiment of that name. Raises `RoundError` when DVC did not finish it."""
    earlier = ", ".join(
        f"{{commit: '{one.commit}', student: '{one.student}'}}" for one in line
    )  # Hydra takes no quoted keys
    changes = (f"axes.cell=[{cell}]", f"rounds=[{earlier}]", f"agent.shots.{cell.env}=0")
    settings = [part for change in changes for part in ("-S", change)]
    print(f"rounds: {name}, the base is {line[-1].student} of commit {line[-1].commit[:12]}", flush=True)
    done = subprocess.run([sys.executable, "-m", "dvc", "exp", "run", "--temp", "--name", name, *settings], check=False)
    if done.returncode != 0:
        raise RoundError(f"{name}: DVC did not finish it (exit status {done.returncode}); what it printed says why")


def commit_of(name: str) -> str:
    """The commit of the experiment of that name."""
    return next(commit for place, commit in experiments().items() if place.rpartition("/")[2] == name)
