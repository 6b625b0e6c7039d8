"""The `report` stage: the metric files as one HTML page, a Markdown file and SVG figures.

    python -m stages.report

Reads metrics/systems.json, metrics/contrasts.json and metrics/funnel.json and nothing else, so a fresh clone can make
the report without any data. Writes report/index.html (self-contained), report/report.md and report/figures/*.svg. The
same metrics give the same bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.core.files import atomic
from stages.core.process import Fault, run_stage
from stages.core.records import SCHEMA_VERSION, from_json
from stages.reporting import tables
from stages.reporting.cells import CellReport, cells, findings, notes
from stages.reporting.figures import COLOURS, figures, inline, standalone
from stages.reporting.words import listed, percent, percent_interval
from stages.stats.contrasts import ContrastRow
from stages.stats.funnel import FunnelRow
from stages.stats.systems import SystemRow

METRICS = Path("metrics")
REPORT = Path("report")
TEMPLATES = Path(__file__).parent / "reporting" / "templates"

T = TypeVar("T")


class ReportError(Fault, ValueError):
    """A metric file is missing or not what the `metrics` stage writes."""


def main() -> int:
    """Run the stage; 1 and one line on stderr when a metric file is unusable."""
    return run_stage("report", "writes the report", run)


def run() -> str:
    """Write the report and say where it is."""
    write_report(read_cells(METRICS), REPORT)
    return f"{REPORT / 'index.html'}"


def read_cells(folder: Path) -> list[CellReport]:
    """The metric files, grouped by environment and agent. Raises `ReportError` on unusable files or no system."""
    systems, contrasts, funnel = (folder / f"{name}.json" for name in ("systems", "contrasts", "funnel"))
    found = cells(
        systems=read_rows(systems, "rows", SystemRow),
        other_systems=read_rows(systems, "other_panels", SystemRow),
        contrasts=read_rows(contrasts, "rows", ContrastRow),
        other_contrasts=read_rows(contrasts, "other_panels", ContrastRow),
        funnel=read_rows(funnel, "rows", FunnelRow),
    )
    if not found:
        raise ReportError(f"{systems}: no system was evaluated; run `dvc repro metrics`")
    return found


def read_rows(path: Path, key: str, kind: type[T]) -> list[T]:
    """The rows under `key` of a metric file, as records."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema_version"] != SCHEMA_VERSION:
            raise ReportError(f"{path}: schema_version {document['schema_version']} found, {SCHEMA_VERSION} expected")
        return [from_json(kind, row) for row in document[key]]
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}; run `dvc repro metrics`") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ReportError(
            f"{path}: not {kind.__name__} rows under {key!r} ({error}); run `dvc repro metrics`"
        ) from error


def write_report(found: list[CellReport], folder: Path) -> None:
    """Write the page, the Markdown file and its figures, each all or nothing."""
    drawn = {cell.key: figures(cell) for cell in found}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=lambda name: bool(name and name.endswith(".html.j2")),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    context = {
        "sections": [section(cell, drawn[cell.key]) for cell in found],
        "colours": COLOURS,
        "panels": tables.panels(found),
        "commits": listed(sorted({row.git_commit for cell in found for row in cell.systems} - {""})),
    }
    for template, path in (("report.html.j2", "index.html"), ("report.md.j2", "report.md")):
        write_text(folder / path, environment.get_template(template).render(context))
    for key, by_name in drawn.items():
        for name, (_, svg) in by_name.items():
            write_text(folder / "figures" / f"{key}_{name}.svg", standalone(svg))


def section(cell: CellReport, drawn: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """What both templates show of one environment and agent."""
    way = cell.funnel
    other_tables: list[tables.Table] = []
    for panel in dict.fromkeys(row.panel for row in cell.other_systems):
        other_tables.append(tables.headline(cell, [row for row in cell.other_systems if row.panel == panel]))
        other_tables += tables.contrasts_by_metric([row for row in cell.other_contrasts if row.panel == panel])
    return {
        "key": cell.key,
        "title": cell.title,
        "notes": notes(cell),
        "findings": findings(cell),
        "tiles": [
            (row.system, cell.name(row), percent(row.success), percent_interval(row.success_low, row.success_high))
            for row in cell.systems
        ],
        "headline": tables.headline(cell, cell.systems),
        "figures": [(name, title, Markup(inline(svg, f"{cell.key}-{name}"))) for name, (title, svg) in drawn.items()],
        "contrasts": tables.contrasts_by_metric(cell.contrasts),
        "categories": tables.categories(cell),
        "way": tables.way(way) if way else [],
        "funnel_tables": [t for t in (tables.teaching(way), tables.gates(way), tables.rules(way)) if t.lines]
        if way
        else [],
        "other_tables": other_tables,
    }


def write_text(path: Path, text: str) -> None:
    """Write a text file, all or nothing."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
