"""The report's figures as SVG text.

The same rows give the same bytes: ids come from a fixed salt, no dates are written, text stays text. Systems differ by
colour (Okabe and Ito's first, told apart by colour-blind readers) and by marker, training seeds by how markers are filled. Ink and paper are placeholder colours,
which `inline` hands to the page's style sheet, so that figures follow a light or dark page, and `standalone` makes
definite.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.core.arms import SYSTEMS
from stages.core.text import visible
from stages.reporting import words
from stages.reporting.cells import CellReport
from stages.reporting.recorded import Curve
from stages.stats.systems import SystemRow

INK, FAINT, PAPER = "#010203", "#040506", "#070809"
COLOURS = {
    "base": "#7f7f7f",
    "rag": "#d55e00",
    "constant": "#cc79a7",
    "random": "#56b4e9",
    "rag_wrong": "#882255",
    "oracle": "#b59f00",
    "sft": "#0072b2",
    "distilled": "#009e73",
    "distilled_random": "#44aa99",
    "on_policy": "#e69f00",
    "hinted": "#994f00",
}
"""By system; a student that is shown hints has the colour of its arm."""
MARKERS = {
    **{"base": "o", "rag": "s", "constant": "v", "random": "^", "rag_wrong": "<", "oracle": "*"},
    **{"sft": "D", "distilled": "P", "distilled_random": "X", "on_policy": "h", "hinted": "d"},
}
AIDED = ">"  # the marker of students that are shown hints, though they were taught to do without
FILLS = ("full", "none", "left", "right", "top", "bottom")  # of the first training seed, the second, ...
LINES = ("-", "--", ":", "-.")  # the same of curves
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.major.size": 0,
    "legend.frameon": False,
}
styled = style.context(["default", STYLE])  # decorates; "default" keeps a user's own matplotlibrc out
WIDTH = 5.0  # inches; a phone shows it at about two thirds, with text still of 9 px


def figures(cell: CellReport, curves: Mapping[str, Curve]) -> dict[str, tuple[str, str]]:
    """By name: title and SVG text, with placeholder ink. Figures without data are left out."""
    drawn = {"success": ("Success by system, with 95 % Wilson interval", success(cell))}
    if cell.meets_withheld:
        drawn["skills"] = (f"Known and withheld skills (strength: {cell.systems[0].strength})", skills(cell))
    drawn["tokens"] = ("Success against tokens: up and to the left is better", tokens(cell))
    if any(row.metric == cell.metric for row in cell.contrasts):
        drawn["contrasts"] = (f"Paired differences in {cell.metric}, with 95 % interval", contrasts(cell, cell.metric))
    drawn["categories"] = ("Success by task type (exploratory)", categories(cell))
    if any(curves.values()):
        drawn["learning"] = ("Learning curves of the students", learning(curves))
    return drawn


@styled
def success(cell: CellReport) -> str:
    """A dot and interval a system."""
    figure, axes = _rows([cell.name(row) for row in cell.systems])
    for y, row in enumerate(cell.systems):
        low, high = 100 * row.success_low, 100 * row.success_high
        axes.plot([low, high], [y, y], color=_colour(row), linewidth=2.5, solid_capstyle="round", alpha=0.55)
        axes.plot(100 * row.success, y, **_look(cell, row), markersize=8)
        axes.annotate(
            f"{100 * row.success:.0f}", (100 * row.success, y), (0, 8), textcoords="offset points", ha="center"
        )
    _percent_axis(axes, "tasks solved, %")
    return as_svg(figure)


@styled
def skills(cell: CellReport) -> str:
    """Known (filled) and withheld (hollow) success, joined, a line a system."""
    figure, axes = _rows([cell.name(row) for row in cell.systems], extra=0.35)
    for y, row in enumerate(cell.systems):
        found = {
            key: 100 * (row.skills[key]["success"] or 0.0) for key in ("known", "withheld") if row.skills[key]["n"]
        }
        axes.plot(list(found.values()), [y] * len(found), color=_colour(row), linewidth=1.5, alpha=0.55)
        for key, x in found.items():
            fill = _colour(row) if key == "known" else PAPER
            axes.plot(x, y, "o", color=_colour(row), markerfacecolor=fill, markersize=8, markeredgewidth=1.8)
    for key, fill in (("known", INK), ("withheld", PAPER)):
        axes.plot([], [], "o", color=INK, markerfacecolor=fill, markersize=7, label=key)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    _percent_axis(axes, "tasks solved, %")
    return as_svg(figure)


@styled
def categories(cell: CellReport) -> str:
    """A group of dots a task category, a dot a system."""
    hidden = set(cell.systems[0].withheld)
    names = cell.categories
    labels = [f"{name}\n(withheld)" if name in hidden else name for name in names]
    figure, axes = _rows(labels, height=0.11 * len(cell.systems) + 0.12, extra=0.6)
    for rank, row in enumerate(cell.systems):
        offset = 0.7 * ((rank + 0.5) / len(cell.systems) - 0.5)
        at = [
            (100 * (row.by_category[n]["success"] or 0.0), y + offset)
            for y, n in enumerate(names)
            if n in row.by_category
        ]
        axes.plot(*zip(*at, strict=True), **_look(cell, row), markersize=6, label=cell.name(row))
    for y in range(1, len(names)):
        axes.axhline(y - 0.5, color=FAINT, linewidth=0.8)
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, fontsize=8.5, handletextpad=0.2)
    _percent_axis(axes, "tasks solved, %")
    return as_svg(figure)


@styled
def tokens(cell: CellReport) -> str:
    """Success (with interval) against billed tokens an episode: up and to the left is better."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for row in cell.systems:
        x, y = row.tokens_per_episode, 100 * row.success
        axes.plot([x, x], [100 * row.success_low, 100 * row.success_high], color=_colour(row), linewidth=2, alpha=0.45)
        axes.plot(x, y, **_look(cell, row), markersize=8, label=cell.name(row))
    axes.set_xlim(left=0, right=1.08 * max(row.tokens_per_episode for row in cell.systems) or 1)
    axes.set_ylim(-3, 103)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("billed tokens an episode")
    axes.set_ylabel("tasks solved, %")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8.5, handletextpad=0.2)
    return as_svg(figure)


@styled
def contrasts(cell: CellReport, metric: str) -> str:
    """A difference and interval a contrast, by success or score; the primary one filled."""
    rows = [row for row in cell.contrasts if row.metric == metric]
    scale = 100 if metric == "success" else 1
    figure, axes = _rows([f"{r.a} {words.DASH} {r.b}" + ("\n(primary)" if r.primary else "") for r in rows])
    axes.axvline(0, color=INK, linewidth=1)
    for y, row in enumerate(rows):
        if row.low is not None and row.high is not None:
            axes.plot([scale * row.low, scale * row.high], [y, y], color=COLOURS["sft"], linewidth=2.5, alpha=0.55)
        fill = COLOURS["sft"] if row.primary else PAPER
        axes.plot(scale * row.difference, y, "D", color=COLOURS["sft"], markerfacecolor=fill, markersize=7)
    axes.set_xlabel("difference, percentage points" if metric == "success" else "difference, points of score")
    return as_svg(figure)


@styled
def learning(curves: Mapping[str, Curve]) -> str:
    """Loss a trained token against optimizer steps, a line a student."""
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    axes = figure.add_subplot()
    arms = [name.partition("_s")[0] for name in curves]
    for place, (name, points) in enumerate(curves.items()):
        arm = arms[place]
        rank = arms[:place].count(arm)
        look = {**_marked(arm, rank), "linestyle": LINES[rank % len(LINES)]}
        axes.plot([p["step"] for p in points], [p["loss"] for p in points], **look, markersize=4, label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("loss a trained token")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8.5)
    return as_svg(figure)


def inline(svg: str, prefix: str) -> str:
    """For an HTML page: ink from its style sheet, ids that no other figure of the page has."""
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    return svg.replace(INK, "currentColor").replace(FAINT, "var(--faint)").replace(PAPER, "var(--card)")


def standalone(svg: str) -> str:
    """For a file of its own: dark ink on white."""
    svg = re.sub(r"(<svg [^>]*>)", r'\1<rect width="100%" height="100%" fill="#ffffff"/>', svg, count=1)
    return svg.replace(INK, "#1f2328").replace(FAINT, "#d5d8dc").replace(PAPER, "#ffffff")


def _rows(labels: Sequence[str], height: float = 0.42, extra: float = 0.0) -> tuple[Figure, Axes]:
    """Axes with a named line each, the first on top. `height` of a line and `extra` room above are in inches."""
    figure = Figure(figsize=(WIDTH, 0.75 + extra + height * len(labels)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_yticks(range(len(labels)), list(map(_label, labels)))
    axes.set_ylim(len(labels) - 0.5, -0.6)
    axes.grid(visible=False, axis="y")
    return figure, axes


def _label(text: str) -> str:
    """At most 30 characters a line, so that there is room for the figure."""
    return "\n".join(line if len(line) <= 30 else f"{line[:29]}…" for line in visible(text).split("\n"))


def _percent_axis(axes: Axes, title: str) -> None:
    axes.set_xlim(-2, 102)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel(title)


def _colour(row: SystemRow) -> str:
    return _colour_of(row.system)


def _colour_of(system: str) -> str:
    return COLOURS.get(system) or COLOURS.get(SYSTEMS[system].arm if system in SYSTEMS else "", INK)


def _look(cell: CellReport, row: SystemRow) -> dict[str, Any]:
    """Of a system's marker on its own, the seed told."""
    return _marked(row.system, cell.rows_of(row.system).index(row))


def _marked(system: str, rank: int) -> dict[str, Any]:
    """Of a marker: `rank` is the seed's among those of the system, from 0."""
    colour, fill = _colour_of(system), FILLS[rank % len(FILLS)]
    return {"marker": MARKERS.get(system, AIDED), "color": colour, "fillstyle": fill, "linestyle": "none"}


def as_svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.S)
