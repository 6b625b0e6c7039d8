"""`python -m stages show`: recorded episodes, one or two of the same task beside each other, and where hints came from.

python -m stages show --list --env alfworld --system distilled --panel test --failures
python -m stages show db2fbdf8
python -m stages show --env alfworld --panel test --task 3 --system base --against distilled
python -m stages show --hint 7ef21edb
python -m stages show --bank alfworld_react
python -m stages show --results
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from stages.core import plugins
from stages.core.arms import SYSTEMS
from stages.core.documents import read_document
from stages.core.process import Fault
from stages.core.records import BankEntry, Episode, Hint
from stages.viewing.banks import banks, show_bank
from stages.viewing.episodes import Query, failures_behind, find, find_hint, find_id, matching
from stages.viewing.pages import show_one, show_two
from stages.viewing.terminal import Row, labelled, open_console, say

METRICS = Path("metrics")
_RESULT = "{:<12} {:<9} {:<16} {:>7} {:>7} {:>9} {:>18}"
NARROW = 100  # columns: below, two episodes come one after the other
_WIDTHS = {
    **{"episode_id": 16, "env": 8, "agent": 8, "system": 16, "seed": 4, "panel": 6, "task_id": 30},
    **{"success": 7, "reward": 6, "steps": 5, "tokens": 7, "stop": 0},
}


class ShowError(Fault, ValueError):
    """The arguments don't go together: says which."""


def add_parser(commands: Any) -> None:
    """The command's own arguments."""
    parser = commands.add_parser(
        "show",
        help="show recorded episodes, two beside each other, and where hints came from",
        description="Show a recorded episode: by its id, or by who played what. Two ids, or --against, show two episodes of "
        "the same task beside each other.",
    )
    parser.add_argument("ids", nargs="*", metavar="EPISODE_ID", help="an episode's id, or its beginning; two at most")
    parser.add_argument("--env", choices=plugins.names("envs"))
    parser.add_argument("--agent", choices=plugins.names("agents"))
    parser.add_argument("--system", metavar="NAME", help=f"one of {', '.join(SYSTEMS)}")
    parser.add_argument("--seed", type=int, help="the student's training seed")
    parser.add_argument("--panel", help="train, dev or test")
    parser.add_argument("--task", help="place in the panel, from 0, or a task id")
    parser.add_argument("--against", metavar="SYSTEM", help="beside it, this system's episode of the same task")
    parser.add_argument("--list", action="store_true", help="a line for each episode that the options match")
    parser.add_argument("--failures", action="store_true", help="leave out what succeeded")
    parser.add_argument("--hint", metavar="ID", help="a bank entry or a hint: what was merged, from which failures")
    parser.add_argument(
        "--bank",
        nargs="?",
        const="",
        metavar="CELL",
        help="every bank, or a cell's: its hints, where they came from, how often the teacher was shown each and then succeeded",
    )
    parser.add_argument(
        "--results",
        nargs="?",
        type=Path,
        const=METRICS,
        metavar="FOLDER",
        help="a line for each system of the last run, or of the run whose metrics lie in FOLDER",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what is asked for. Raises `ShowError`, `NotFound` or `RecordError`."""
    if args.results:
        show_results(args.results / "systems.json")
        return 0
    console = open_console()
    if args.bank is not None:
        for cell in banks(args.bank):
            show_bank(console, cell)
        return 0
    query = Query(args.env, args.agent, args.system, args.seed, args.panel, args.task, args.failures)
    if args.hint:
        show_hint(console, *find_hint(args.hint))
    elif args.list:
        show_list(query)
    else:
        chosen = _chosen(args, query)
        failures = {entry: n for e in chosen for entry, n in failures_behind(e.env, e.agent).items()}
        show(console, chosen, failures)
    return 0


def _chosen(args: argparse.Namespace, query: Query) -> list[Episode]:
    """The episodes named by id or by the query, and the one they are held against."""
    if args.ids and query != Query():
        raise ShowError("name an episode by its id or by --env, --task and so on, not by both")
    if not args.ids and args.task is None:
        raise ShowError("name an episode by its id, or by --task with --env, --panel and --system; --list lists them")
    if len(args.ids) + bool(args.against) > 2:
        raise ShowError("two episodes at most stand beside each other")
    chosen = [find_id(name) for name in args.ids] or [find(query)]
    if args.against:
        one = chosen[0]
        chosen.append(find(Query(one.env, one.agent, args.against, panel=one.panel, task=one.task_id)))
    return chosen


def show(console: Console, episodes: list[Episode], failures: Mapping[str, int]) -> None:
    """One episode, or two beside each other where there is room. Raises `ShowError` for two that are not of one task."""
    tasks = {(e.env, e.panel, e.task_id): e for e in episodes}
    if len(tasks) > 1:
        played = " and ".join(f"{e.task_id} ({e.panel})" for e in episodes)
        raise ShowError(f"two episodes of different tasks are not comparable: {played}")
    if len({e.panel_sha256 for e in episodes}) > 1:
        raise ShowError("the panel was another one when one of the two was played; run `dvc repro` to play both anew")
    if len(episodes) == 2 and console.width >= NARROW:
        show_two(console, (episodes[0], episodes[1]), failures)
        return
    for episode in episodes:
        show_one(console, episode, failures)


def show_list(query: Query) -> None:
    """A line for each episode, never wrapped."""
    found = matching(query)
    print(_line({name: name for name in _WIDTHS}))
    for row in found.iter_rows(named=True):
        said = {"success": "yes" if row["success"] else "no", "reward": f"{row['reward']:.2f}"}
        print(_line({**row, **said}))


def _line(row: Mapping[str, object]) -> str:
    return "  ".join(f"{row[name]!s:<{width}}" for name, width in _WIDTHS.items()).rstrip()


def show_results(path: Path) -> None:
    """A line for each system: tasks solved, of known and of withheld skills too, and tokens. Raises `RecordError` without metrics."""
    [rows] = read_document(path, "rows")
    print(_RESULT.format("environment", "agent", "system", "solved", "known", "withheld", "tokens an episode"))
    for row in rows:
        shares = [_solved(row), *(_solved(row["skills"][skill]) for skill in ("known", "withheld"))]
        print(_RESULT.format(row["env"], row["agent"], row["system"], *shares, f"{row['tokens_per_episode']:,.0f}"))


def _solved(share: Mapping[str, Any]) -> str:
    return f"{round(share['success'] * share['n'])}/{share['n']}" if share["n"] else "-"


def show_hint(console: Console, entry: BankEntry, hints: list[Hint]) -> None:
    """A bank entry, and under it the hints it merged with what each was drawn from."""
    place = f"{entry.entry_id} ({entry.env}, {entry.agent}, category {entry.category}, rank {entry.rank})"
    merged = f"{entry.count} hint{'s' * (entry.count != 1)} of failed episodes"
    merged += "; added or rewritten by hand" * (entry.origin == "curated")
    say(console, labelled([("entry", place), ("text", Text(entry.text, "bold")), ("merges", merged)]))
    for number, hint in enumerate(hints, 1):
        rows: list[Row] = [("hint", hint.hint_id), ("episode", f"{hint.episode_id} ({hint.task_id})")]
        rows += [("rule", hint.rule), ("saw", hint.evidence)]
        say(console, labelled(rows if hint.text == entry.text else [*rows, ("text", hint.text)], number))
