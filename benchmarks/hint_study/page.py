"""The study's page and figure, made of its results alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hint_study.conditions import KS, NONE
from stages.core.params import Cell
from stages.reporting import words
from stages.reporting.figures import FAINT, INK, PAPER, as_svg, standalone, styled

Row = Mapping[str, Any]
Group = tuple[str, list[Row]]  # rows of one line of a table, by their name

BEGIN, END = "<!-- verdict -->", "<!-- /verdict -->"
UNSAID = "The verdict is written after the run."
COLOURS = {1: "#56b4e9", 3: "#0072b2", 6: "#e69f00", 9: "#d55e00"}
MARKERS = {1: "o", 3: "s", 6: "^", 9: "D"}
HEAD = """\
# Hints: who writes them, how they are chosen, how many are shown

The base agent of the default study plays the dev panels with hints from its failures on the train panel alone.

    dvc repro                              # the default study
    python benchmarks/hints.py{options}

writes this page, `results.json` and the figure. The episodes of every condition are then in `.cache/hint_study/`, as Parquet; a second run takes them from
`.cache/journal/` and plays nothing. One run of a deterministic agent: commit {commit}, {engine}, {machine}, {model}.

"""
LIMITED = "**Not the whole study: at most {limit} tasks of each panel.**\n\n"
READING = """\
A task's episode counts for all conditions that show it the same hints in the same order. Solved tasks of each panel; where a share of the failures was drawn, one figure
for each of three draws. All columns but those of a k are of k = 3. p: exact McNemar against no hints on the same tasks, uncorrected. Hint tokens: what hints add to the first prompt. Withheld: tasks whose
skill the warm-up never showed.{score}
"""
CHOSEN = """\
k = 3, tasks that call for a withheld skill. {what} First: the first hint speaks of something that the task wants. Others: what hints speak of and the task does not want.
"""
WHAT = {
    "alfworld": "A task wants the tool of its category.",
    "webshop": "A task wants the option groups that its instruction names.",
}


def page(results: Mapping[str, Any], old: str) -> str:
    """README.md as text; the verdict is that of the `old` page."""
    rows = results["rows"]
    first = rows[0]
    limit = results.get("limit")
    options = " --train" if any(row["panel"] == "train" for row in rows) else ""
    options += f" --limit {limit} --out FOLDER" if limit else ""
    facts = {"commit": first["git_commit"][:7], **{name: first[name] for name in ("engine", "machine", "model")}}
    parts = [
        HEAD.format(options=options, **facts),
        *([LIMITED.format(limit=limit)] if limit else []),
        verdict(old),
        "\n\n![Tasks solved on dev](success.svg)\n",
    ]
    for cell, own in _by(rows, "cell"):
        env = Cell(cell).env
        parts.append(f"\n## {words.env(env)}\n\n")
        for panel, played in _by(own, "panel"):
            parts += [f"### {panel.capitalize()}: {played[0]['n']} tasks\n\n", *_lines(_played(played)), "\n"]
        score = "" if played[0]["score"] is None else " Score: mean reward x 100."
        parts += [READING.format(score=score), "\n### What is chosen\n\n"]
        parts += [*_lines(_chosen([r for r in results["choices"] if r["cell"] == cell])), "\n"]
        parts += [CHOSEN.format(what=WHAT[env]), "\n### The banks\n\n"]
        parts += _lines(_banks([r for r in results["banks"] if r["cell"] == cell]))
    if results["skipped"]:
        parts += ["\n## Left out\n\n", *(f"- {line}\n" for line in results["skipped"])]
    return "".join(parts)


def verdict(page: str) -> str:
    """What people wrote between the marks of a page, with them."""
    found = re.search(f"{BEGIN}\n(.*?)\n{END}", page, re.S)
    return f"{BEGIN}\n{found[1] if found else UNSAID}\n{END}"


def grouped(rows: Sequence[Row]) -> Iterator[Group]:
    """Rows of hinted play by writer, share of the failures, way and scope."""

    def place(row: Row) -> tuple[str, float, str, str]:
        return row["writer"], -row["share"], row["scope"] == "bank", row["retrieval"]

    order = {id(row): number for number, row in enumerate(rows)}
    hinted = sorted((row for row in rows if row["writer"] != NONE), key=lambda row: (place(row)[:3], order[id(row)]))
    for _, own in groupby(hinted, place):
        found = list(own)
        yield _name(found[0]), found


def _name(row: Row) -> str:
    share = "" if row["share"] == 1 else f", {100 * row['share']:.0f} % of failures"
    scope = "" if row["scope"] == "category" else ", whole bank"
    return f"{row['writer']}, {row['retrieval']}{scope}{share}"


def _played(rows: Sequence[Row]) -> Iterator[list[str]]:
    """A line for no hints, then one for each writer and way."""
    [base] = [row for row in rows if row["writer"] == NONE]
    ks = [k for k in KS if any(row["k"] == k for row in rows)]
    scored, withheld = base["score"] is not None, base["withheld"]["n"] > 0
    yield [
        "hints",
        *(f"k = {k}" for k in ks),
        *(["withheld, k = 3"] if withheld else []),
        *(["score"] if scored else []),
        *("p", "hint tokens", "tokens an episode"),
    ]
    interval = words.whole_interval(base["low"], base["high"])
    alone = [f"**{base['solved']}** ({interval})", *[""] * (len(ks) - 1)]
    yield ["none", *alone, *_details([base], withheld, scored)]
    for name, own in grouped(rows):
        by_k = [[row for row in own if row["k"] == k] for k in ks]
        cells = [_listed(str(row["solved"]) for row in at) for at in by_k]
        yield [name, *cells, *_details([row for row in own if row["k"] == 3], withheld, scored)]


def _details(rows: Sequence[Row], withheld: bool, scored: bool) -> list[str]:
    """The columns of what is shown with three hints, or with none."""
    found = [_listed(f"{r['withheld']['solved']} of {r['withheld']['n']}" for r in rows)] if withheld else []
    found += [_listed(f"{row['score']:.0f}" for row in rows)] if scored else []
    hinted = [row for row in rows if row["writer"] != NONE]
    return [
        *found,
        _listed(words.p_value(row["p"]) for row in hinted),
        _listed(words.count(row["hint_tokens"]) for row in hinted),
        _listed(words.count(row["tokens"]) for row in rows),
    ]


def _chosen(rows: Sequence[Row]) -> Iterator[list[str]]:
    yield ["panel", "hints", "wanted and shown", "all of a task's", "first", "others, a task"]
    for row in rows:
        of = f"of {row['tasks']}"
        shown = f"{row['shown']} of {row['wanted']}"
        yield [
            row["panel"],
            _name({**row, "share": 1}),
            shown,
            f"{row['all']} {of}",
            f"{row['first']} {of}",
            f"{row['others']:.2f}",
        ]


def _banks(rows: Sequence[Row]) -> Iterator[list[str]]:
    yield ["writer", "failures", "hints", "turned away", "entries", "tokens of writing"]
    for (writer, _), own in groupby(rows, lambda row: (row["writer"], row["share"])):
        found = list(own)
        away = {
            name: sum(row["rejected"].get(name, 0) for row in found)
            for name in sorted(set().union(*(row["rejected"] for row in found)))
        }
        yield [
            writer,
            str(found[0]["failures"]),
            _listed(str(row["hints"]) for row in found),
            _listed(f"{name} {number}" for name, number in away.items()),
            _listed(str(row["entries"]) for row in found),
            words.count(sum(row["write_tokens"] for row in found)),
        ]


@styled
def figure(results: Mapping[str, Any]) -> str:
    """Tasks solved on dev, in percent, with Wilson's interval: a line a writer and way, a marker a k, no hints as a band."""
    cells = [(cell, [r for r in own if r["panel"] == "dev"]) for cell, own in _by(results["rows"], "cell")]
    lines = max(len(list(grouped(rows))) for _, rows in cells)
    drawing = Figure(figsize=(4.2 * len(cells) + 1.2, 1.2 + 0.42 * lines), layout="constrained")
    for axes, (cell, rows) in zip(drawing.subplots(1, len(cells), squeeze=False)[0], cells, strict=True):
        _draw(axes, rows)
        axes.set_title(words.env(Cell(cell).env), fontsize=10)
    for k in KS:
        axes.plot([], [], MARKERS[k], color=COLOURS[k], label=f"k = {k}")
    axes.plot([], [], color=INK, label="no hints")
    drawing.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(KS) + 1)
    return standalone(as_svg(drawing))


def _draw(axes: Axes, rows: Sequence[Row]) -> None:
    [base] = [row for row in rows if row["writer"] == NONE]
    axes.axvspan(100 * base["low"], 100 * base["high"], color=FAINT, alpha=0.35, linewidth=0)
    axes.axvline(100 * base["success"], color=INK, linewidth=1)
    found = list(grouped(rows))
    for y, (_, own) in enumerate(found):
        for rank, row in enumerate(own):
            at = y + 0.66 * ((rank + 0.5) / len(own) - 0.5)
            colour = COLOURS[row["k"]]
            axes.plot([100 * row["low"], 100 * row["high"]], [at, at], color=colour, linewidth=1.2, alpha=0.5)
            axes.plot(100 * row["success"], at, MARKERS[row["k"]], color=colour, markersize=5, markeredgecolor=PAPER)
    axes.set_yticks(
        range(len(found)), [name.replace(", whole", ",\nwhole").replace(" of f", "\nof f") for name, _ in found]
    )
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(-2, 102)
    axes.set_xlabel("dev tasks solved, %")


def _by(rows: Sequence[Row], key: str) -> Iterator[tuple[str, list[Row]]]:
    for name in dict.fromkeys(row[key] for row in rows):
        yield name, [row for row in rows if row[key] == name]


def _lines(table: Iterator[list[str]]) -> Iterator[str]:
    """A table in Markdown."""
    head = next(table)
    for cells in (head, ["---"] * len(head), *table):
        yield f"| {' | '.join(cells)} |\n"


def _listed(texts: Iterator[str]) -> str:
    return ", ".join(texts) or words.DASH
