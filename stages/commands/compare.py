"""`python -m stages compare`: states of the project beside each other.

python -m stages compare              HEAD, the workspace if it differs, and the experiments that started from HEAD
python -m stages compare k1           the workspace, and what k1 differs in
python -m stages compare HEAD k1 k2   HEAD, and what k1 and k2 differ in

First the figures one decides by and the settings that differ; then, for each state against the first, the stages that ran anew, and which figures
moved. A figure is paired over the tasks of the reported panel, all of them under Holm's correction.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages.reporting.words import DASH, interval, listed, mean, p_value, signed
from stages.stats.contrasts import ContrastRow
from stages.stats.headline import headline
from stages.stats.power import ALPHA
from stages.viewing.differences import StageDifferences, SystemDifference, stage_differences, system_differences
from stages.viewing.revisions import WORKSPACE, Revision, RevisionError, find_revision, usual_revisions
from stages.viewing.terminal import open_console

LABEL = 34  # columns of what a line is of
COLUMN = 14  # columns of a state at least


def add_parser(commands: Any) -> None:
    """The command's own arguments."""
    parser = commands.add_parser(
        "compare",
        help="experiments and commits beside each other: figures, settings, what ran anew, what moved beyond noise",
        description="Compare states: each with the first. A single REV is compared with the workspace; without any, HEAD with the workspace "
        "and all experiments that started from it.",
    )
    parser.add_argument(
        "revisions", nargs="*", metavar="REV", help="an experiment, a commit by any of its names, or `workspace`"
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Print the comparison. Raises `RevisionError` for a state that is not there."""
    names = args.revisions if len(args.revisions) != 1 else [WORKSPACE, *args.revisions]
    found = [find_revision(name) for name in names] if names else usual_revisions()
    if len({revision.name for revision in found}) < len(found):
        raise RevisionError(f"a state is named twice: {' '.join(names)}")
    console = open_console()
    show_table(console, "figure", found, figure_lines(found))
    show_table(console, "setting that differs", found, setting_lines(found))
    for other in found[1:]:
        for line in said(found[0], other):
            console.print(line, markup=False)
    return 0


def figure_lines(revisions: Sequence[Revision]) -> dict[str, list[str]]:
    """The deciding figures as text, a line each by its name, a column a state."""
    tables = [
        {
            f"{cell} {system} {name}": shown(name, value, graded="score" in figures)
            for cell, systems in headline(revision.systems, revision.contrasts).items()
            for system, figures in systems.items()
            for name, value in figures.items()
        }
        for revision in revisions
    ]
    names = dict.fromkeys(name for table in tables for name in table)
    return {name: [table.get(name, DASH) for table in tables] for name in names}


def shown(figure: str, value: float, graded: bool) -> str:
    """A figure in the unit people read it in; a contrast is in points, of score where `graded`, else of success."""
    if figure.startswith("minus_"):
        return signed(value, "score" if graded else "success")
    return p_value(value) if figure == "p" else mean(value, "success" if figure == "withheld" else figure)


def setting_lines(revisions: Sequence[Revision]) -> dict[str, list[str]]:
    """The settings that are not the same in all states, a column a state. A section that a state lacks is one line."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for revision in revisions for name in revision.settings):
        line = next((part for part in _parts(name) if not all(_has(revision, part) for revision in revisions)), name)
        values = [_plain(revision, line) for revision in revisions]
        if len(set(values)) > 1:
            found[line] = values
    return found


def _parts(name: str) -> list[str]:
    """A dotted name's sections, the outermost first, and itself."""
    keys = name.split(".")
    return [".".join(keys[:n]) for n in range(1, len(keys) + 1)]


def _has(revision: Revision, name: str) -> bool:
    return name in revision.settings or any(known.startswith(f"{name}.") for known in revision.settings)


def _plain(revision: Revision, name: str) -> str:
    if name in revision.settings:
        return json.dumps(revision.settings[name], ensure_ascii=False)
    return "there" if _has(revision, name) else DASH


def show_table(console: Console, title: str, revisions: Sequence[Revision], lines: Mapping[str, list[str]]) -> None:
    """Lines with a column a state; as many tables as the terminal's width needs, the first state in each of them."""
    if not lines:
        console.print(f"no {title}\n")
        return
    others = range(1, len(revisions))
    room = max(1, (console.width - LABEL) // COLUMN - 1)
    for start in range(0, max(1, len(others)), room):
        columns = [0, *others[start : start + room]]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(title, overflow="fold")
        for column in columns:
            table.add_column(Text(revisions[column].name), justify="right", overflow="fold")
        for name, values in lines.items():
            table.add_row(Text(name), *(Text(values[column]) for column in columns))
        console.print(table)
        console.print()


def said(first: Revision, second: Revision) -> list[str]:
    """What the second state differs in, in sentences, a line each."""
    stages = stage_differences(first, second)
    systems = system_differences(first, second, first.number("stats.bootstrap"), first.number("stats.seed"))
    heading = f"{second.name} against {first.name}"
    return [
        heading,
        "=" * len(heading),
        *stages_said(stages, bool(setting_lines([first, second]))),
        *systems_said(systems),
        "",
    ]


def stages_said(stages: StageDifferences, settings_differ: bool) -> list[str]:
    """Which stages ran anew, and what of the code is another."""
    lines = [f"ran anew: {listed(stages.other)}"] if stages.other else []
    lines += [f"ran anew and made the same: {listed(stages.same)}"] if stages.same else []
    if not lines:
        lines.append(
            "no stage ran anew"
            + (", though settings differ; `dvc repro` runs what they touch" if settings_differ else "")
        )
    return [*lines, *([f"code that differs: {listed(stages.code)}"] if stages.code else [])]


def systems_said(systems: Sequence[SystemDifference]) -> list[str]:
    """Which figures moved, and whether beyond noise; then what did not, and what is not paired."""
    lines = [figure_said(one, row) for one in systems for row in one.rows if row.difference]
    figures = [row for one in systems for row in one.rows]
    if figures:
        beyond = sum(row.told_apart for row in figures)
        lines.append(
            f"{beyond} of {len(figures)} figures moved beyond noise: p < {ALPHA} after Holm's correction over all of them"
        )
    same = [one for one in systems if not one.reason and not any(row.difference for row in one.rows)]
    lines += [f"not moved: {named(same)}"] if same else []
    reasons: dict[str, list[SystemDifference]] = {}
    for one in systems:
        reasons.setdefault(one.reason, []).append(one)
    return [*lines, *(f"{named(ones)}: {reason}" for reason, ones in reasons.items() if reason)]


def named(systems: Sequence[SystemDifference]) -> str:
    """Systems by their cells: `alfworld_react (base, rag)`."""
    by_cell: dict[str, list[str]] = {}
    for one in systems:
        by_cell.setdefault(one.cell, []).append(one.system)
    return ", ".join(f"{cell} ({', '.join(names)})" for cell, names in by_cell.items())


def figure_said(system: SystemDifference, row: ContrastRow) -> str:
    """One figure that moved: from what to what, by how much, how surely."""
    name = row.metric if row.tasks == "all" else row.tasks
    by = f"{signed(row.difference, row.metric)} ({interval(row)})"
    alone = "" if row.only_a is None else f", {row.only_a} won and {row.only_b} lost"
    return (
        f"{system.cell} {system.system} {name}: {mean(row.mean_b, row.metric)} to {mean(row.mean_a, row.metric)}, {by}; "
        f"{row.n} tasks{alone}, p {p_value(row.p)}: {'beyond' if row.told_apart else 'within'} noise"
    )
