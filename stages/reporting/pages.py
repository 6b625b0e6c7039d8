"""The report's files as text: what of a cell stands on which page, put into the templates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.core.arms import teacher_name
from stages.core.text import visible
from stages.reporting import tables, words
from stages.reporting.cells import CellReport, notes, warning
from stages.reporting.episodes import Column, episode_set, packed
from stages.reporting.figures import COLOURS, figures, inline, standalone
from stages.reporting.paper import beside
from stages.reporting.provenance import top_hints, way_back
from stages.reporting.recorded import Recorded
from stages.reporting.verdict import verdict
from stages.stats.systems import SystemRow, label

TEMPLATES = Path(__file__).parent / "templates"
SHOWN_FIRST = (
    "base",
    "rag",
    "sft",
    "distilled",
    "teacher",
)  # columns of the browser, as long as a reader chooses no others
PRESETS = (
    ("rag", "base"),
    ("distilled", "sft"),
    ("distilled", "base"),
    ("rag", "distilled"),
    ("distilled", "distilled_random"),
    ("teacher", "base"),
)
"""Who solves what who else fails: what most want to look at first."""


def written(found: Sequence[CellReport], recorded: Mapping[str, Recorded]) -> dict[str, str]:
    """All files of the report by their path in its folder; `recorded` is by cell."""
    drawn = {cell.key: figures(cell, recorded[cell.key].curves) for cell in found}
    sets = {cell.key: episode_sets(cell, recorded[cell.key]) for cell in found}
    context = {
        **common(found),
        "sections": [section(cell, recorded[cell.key], drawn[cell.key], sets[cell.key]) for cell in found],
        "colours": COLOURS,
        "origin": [tables.panels(found), tables.models(found)],
        "sets": [about(cell, name, content) for cell in found for name, content in sets[cell.key].items()],
        "text": lambda name: Markup((TEMPLATES / name).read_text(encoding="utf-8")),
    }
    files = {
        "index.html": rendered("report.html.j2", context),
        "episodes.html": rendered("episodes.html.j2", context),
        "report.md": markdown(found),
    }
    for cell in found:
        files |= {f"figures/{cell.key}_{name}.svg": standalone(svg) for name, (_, svg) in drawn[cell.key].items()}
        files |= {f"episodes/{name}.js": packed(name, content) for name, content in sets[cell.key].items()}
    return files


def markdown(found: Sequence[CellReport]) -> str:
    """The Markdown file: what the metric files say, without episodes."""
    return rendered("report.md.j2", {**common(found), "sections": [summary(cell) for cell in found]})


def common(found: Sequence[CellReport]) -> dict[str, Any]:
    """What is said of all cells together."""
    commits = sorted({row.git_commit for cell in found for row in cell.systems} - {""})
    return {"warning": warning(found), "commits": words.listed(commits)}


def rendered(template: str, context: Mapping[str, Any]) -> str:
    """A template with its text escaped for what it is, HTML or Markdown."""
    html = template.endswith(".html.j2")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=html,
        finalize=_in_html if html else _in_markdown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(context)


def summary(cell: CellReport) -> dict[str, Any]:
    """What both the page and the Markdown file show of one environment and agent."""
    return {
        "title": cell.title,
        "verdict": verdict(cell),
        "notes": notes(cell),
        "headline": tables.headline(cell, cell.systems),
        "gained_and_lost": tables.gained_and_lost(cell),
        "predicted": tables.predicted(cell),
        "paper": beside(cell),
    }


def section(
    cell: CellReport,
    recorded: Recorded,
    drawn: Mapping[str, tuple[str, str]],
    sets: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What the page shows of one environment and agent, whose figures and sets of episodes are given."""
    way = cell.funnel
    other_tables: list[tables.Table] = []
    for panel in dict.fromkeys(row.panel for row in cell.other_systems):
        other_tables.append(tables.headline(cell, [row for row in cell.other_systems if row.panel == panel]))
        other_tables += tables.contrasts_by_metric([row for row in cell.other_contrasts if row.panel == panel])
    return {
        **summary(cell),
        "key": cell.key,
        "panel": cell.systems[0].panel,
        "bars": [_bar(cell, row) for row in cell.systems],
        "bars_title": f"Solved of {words.numbers(row.n for row in cell.systems)} {cell.systems[0].panel} tasks, % (95 % interval)"
        + ("" if cell.systems[0].score is None else ", and mean score of 100"),
        "figures": {name: (title, Markup(inline(svg, f"{cell.key}-{name}"))) for name, (title, svg) in drawn.items()},
        "contrasts": tables.contrasts_by_metric(cell.contrasts),
        "effort": tables.effort(cell, cell.systems),
        "categories": tables.categories(cell),
        "way": tables.way(way) if way else [],
        "teaching": tables.teaching(way) if way else None,
        "top_hints": top_hints(recorded) if recorded.bank else None,
        "rules": tables.rules(way) if way and way.rules else None,
        "gates": tables.gates(way) if way and any(way.gates.values()) else None,
        "other_tables": other_tables,
        "links": links(f"{cell.key}.{cell.systems[0].panel}", sets[f"{cell.key}.{cell.systems[0].panel}"]),
        "lessons": f"{cell.key}.train" if any(recorded.lessons.values()) else "",
    }


def _bar(cell: CellReport, row: SystemRow) -> dict[str, Any]:
    """A system's line of the first screen; `at` are the lengths of its bar, of what lies before its interval, and of that."""
    return {
        "system": row.system,
        "name": cell.name(row),
        "percent": words.percent(row.success),
        "interval": words.whole_interval(row.success_low, row.success_high),
        "score": None if row.score is None else f"{row.score:.1f}",
        "at": [f"{100 * x:.1f}%" for x in (row.success, row.success_low, row.success_high - row.success_low)],
    }


def links(name: str, content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Words and address of what most want to look at first in a set of episodes, with how many there are; of a student, its first seed."""
    outcomes = {
        column["key"]: [episode and episode["outcome"] for episode in column["episodes"]]
        for column in content["columns"]
    }
    first = first_seeds(list(outcomes))
    kept = f" of the first {len(content['tasks'])} tasks" if content["left_out"] else ""
    found = []
    for a, b in ((first[a], first[b]) for a, b in PRESETS if a in first and b in first):
        number = sum(pair == ("solved", "failed") for pair in zip(outcomes[a], outcomes[b], strict=True))
        address = urlencode({"set": name, f"is.{a}": "solved", f"is.{b}": "failed"})
        found.append((f"{a} solves, {b} fails: {number}{kept}", address))
    return found


def first_seeds(keys: Sequence[str]) -> dict[str, str]:
    """By system, the first of these columns."""
    found: dict[str, str] = {}
    for key in keys:
        found.setdefault(key.partition("_s")[0], key)
    return found


def episode_sets(cell: CellReport, recorded: Recorded) -> dict[str, dict[str, Any]]:
    """By name: the reported panel with all systems, and the train panel with base, teacher and the way back from lessons."""
    first = cell.systems[0]
    columns = [
        Column(cell.key_of(row), cell.name(row), recorded.runs[label(row.system, row.seed)]) for row in cell.systems
    ]
    sets = {f"{cell.key}.{first.panel}": episode_set(columns, first.withheld, recorded.bank)}
    if recorded.rollouts:
        plays = [
            Column("base", words.SYSTEMS["base"], recorded.rollouts),
            *(Column(teacher_name(way), words.TEACHERS[way], played) for way, played in recorded.teachers.items()),
        ]
        train = episode_set(plays, first.withheld, recorded.bank)
        students = [name for name in recorded.runs if name in recorded.curves]
        sets[f"{cell.key}.train"] = train | way_back(recorded, students)
    return sets


def about(cell: CellReport, name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """What the browser knows of a set before it is loaded."""
    keys = [column["key"] for column in content["columns"]]
    panel = name.rpartition(".")[2]
    return {
        "name": name,
        "title": f"{cell.title}: {panel} panel",
        "columns": [[column["key"], column["name"]] for column in content["columns"]],
        "first": [key for system, key in first_seeds(keys).items() if system in SHOWN_FIRST],
        "presets": links(name, content),
        "lessons": f"{cell.title}: lessons" if content.get("lessons") else "",
    }


def _in_html(value: object) -> object:
    return visible(value) if type(value) is str else value


def _in_markdown(value: object) -> object:
    """Text that Markdown shows as it is, in one line."""
    if not isinstance(value, str):
        return value
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", visible(" ".join(value.split("\n"))).replace("&", "&amp;"))
    return re.sub(r"([\\`*\[\]|])", r"\\\1", text)
