"""The `report` stage: two pages that open from a disk, a Markdown file of two pages, and SVG figures.

    python -m stages.report

Reads metrics/systems.json, metrics/contrasts.json and metrics/funnel.json, and the episodes, hints, lessons and learning
curves they were counted from. Writes report/index.html (the answer, figures, tables), report/episodes.html with
report/episodes/*.js (episodes side by side, and the way back from a lesson to a failure), report/report.md and
report/figures/*.svg. The same inputs give the same bytes, and a folder that was there before is replaced as a whole.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

from stages.core.arms import ARMS, teachers
from stages.core.documents import read_curve, read_document
from stages.core.files import replacing
from stages.core.process import Fault, run_stage
from stages.core.records import BankEntry, Episode, Hint, Lesson, from_json, read
from stages.reporting.cells import CellReport, cells
from stages.reporting.pages import written
from stages.reporting.recorded import Recorded
from stages.stats.contrasts import ContrastRow
from stages.stats.funnel import FunnelRow
from stages.stats.systems import SystemRow, label

DATA = Path("data")
METRICS = Path("metrics")
REPORT = Path("report")

T = TypeVar("T")


class ReportError(Fault, ValueError):
    """A file is missing, not what its stage writes, or of another run than the rest: says which, and what to do."""


def main() -> int:
    """Run the stage; 1 and one line on stderr when a file is unusable."""
    return run_stage("report", "writes the report", run)


def run() -> str:
    """Write the report and say where it is."""
    found = read_cells(METRICS)
    files = written(found, {cell.key: recorded(cell) for cell in found})
    with replacing(REPORT) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    return f"{REPORT / 'index.html'}, {sum(map(len, files.values())) / 1e6:.1f} MB in all"


def read_cells(folder: Path) -> list[CellReport]:
    """The metric files, grouped by environment and agent. Raises `ReportError` or `RecordError` on unusable files or no system."""
    systems, contrasts, funnel = (folder / f"{name}.json" for name in ("systems", "contrasts", "funnel"))
    found = cells(
        systems=read_rows(systems, "rows", SystemRow),
        other_systems=read_rows(systems, "other_panels", SystemRow),
        contrasts=read_rows(contrasts, "rows", ContrastRow),
        other_contrasts=read_rows(contrasts, "other_panels", ContrastRow),
        by_skill=read_rows(contrasts, "by_skill", ContrastRow),
        funnel=read_rows(funnel, "rows", FunnelRow),
    )
    if not found:
        raise ReportError(f"{systems}: no system was evaluated; run `dvc repro metrics`")
    return found


def read_rows(path: Path, key: str, kind: type[T]) -> list[T]:
    """The rows under `key` of a metric file, as records."""
    [rows] = read_document(path, key)
    try:
        return [from_json(kind, row) for row in rows]
    except (KeyError, TypeError, AttributeError) as error:
        raise ReportError(
            f"{path}: not {kind.__name__} rows under {key!r} ({error}); run `dvc repro metrics`"
        ) from error


def recorded(cell: CellReport) -> Recorded:
    """What was recorded of a cell. Raises `RecordError` or `ReportError` for files that are missing, of another schema or another run."""
    runs = {label(row.system, row.seed): _run(cell, row) for row in cell.systems}
    if cell.funnel is None:
        return Recorded(runs)
    hints = DATA / "hints" / cell.key
    return Recorded(
        runs,
        rollouts=_played(DATA / "rollouts" / cell.key / "episodes.parquet", cell.funnel.panel_sha256),
        teachers={
            way: _played(DATA / "teacher" / cell.key / way / "episodes.parquet", cell.funnel.panel_sha256)
            for way in teachers(cell.funnel.lessons)
        },
        hints=read(hints / "hints.parquet", Hint),
        bank=read(hints / "bank.parquet", BankEntry),
        lessons={
            arm: read(DATA / "lessons" / f"{cell.key}_{arm}" / "lessons.parquet", Lesson) for arm in cell.funnel.lessons
        },
        curves={
            name: read_curve(DATA / "students" / f"{cell.key}_{name}" / "curve.jsonl")
            for name in (label(row.system, row.seed) for row in cell.systems if row.system in ARMS)
        },
    )


def _run(cell: CellReport, row: SystemRow) -> list[Episode]:
    path = DATA / "evals" / f"{cell.key}_{label(row.system, row.seed)}" / f"{row.panel}.parquet"
    return _played(path, row.panel_sha256)


def _played(path: Path, panel_sha256: str) -> list[Episode]:
    """Episodes of the panel that the metrics count."""
    episodes = read(path, Episode)
    other = {episode.panel_sha256 for episode in episodes} - {panel_sha256}
    if other:
        raise ReportError(
            f"{path}: episodes of panel {min(other)}, but the metrics count {panel_sha256}; run `dvc repro metrics`"
        )
    return episodes


if __name__ == "__main__":
    sys.exit(main())
