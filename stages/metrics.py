"""The `metrics` stage: every evaluated episode, counted into three contracts that scripts outside the project parse.

    python -m stages.metrics

Reads the episodes of data/evals, data/rollouts and data/teacher, the panels, hints, bank and lessons. Writes
metrics/systems.json and metrics/contrasts.json (`rows`: each environment's reported panel, which is `test` when it was evaluated;
`other_panels`: rows of the same form for the others, such as dev, and of contrasts for train, where hints against none predict what teaching them
gains; of contrasts also `by_skill`: students against the base agent at tasks of known and of withheld skills, on every measured panel), metrics/funnel.json, CSVs for DVC plots, and the figures one decides by,
a file a system: metrics/summary/<cell>/<system>.json. DVC's table of metrics has a line a file and a column a key, so they fit a terminal,
which one file of many keys would not. The rows' fields are documented in `stages.stats`. `git_commit` is the commit checked out when the stage ran; a commit of the metrics comes after it.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core import plugins
from stages.core.arms import aided
from stages.core.documents import read_document
from stages.core.files import atomic, replacing
from stages.core.params import Cell, Settings, load
from stages.core.process import run_stage
from stages.core.records import SCHEMA_VERSION, Answer, BankEntry, Episode, Hint, Lesson, Rejection, read
from stages.envs.panel import load_panel, panel_source
from stages.stats.contrasts import PRIMARY_PANEL, ContrastRow, contrast_rows, skill_rows
from stages.stats.funnel import FunnelRow, LessonSet, funnel_row
from stages.stats.headline import headline
from stages.stats.systems import (
    STUDENTS,
    ComparisonError,
    Overlap,
    Panel,
    Study,
    SystemRow,
    check_panel,
    label,
    system_row,
)

DATA = Path("data")
METRICS = Path("metrics")

Runs = dict[str, list[Episode]]  # by the name of the system's folder


def main() -> int:
    """Run the stage; 1 and one line on stderr when its inputs do not allow a comparison."""
    return run_stage("metrics", "counts every episode", run)


def run() -> str:
    """Write the metric files, and say how many systems and contrasts stand in them."""
    settings = load()
    systems, contrasts = evaluated(settings, git_commit())
    trained = [on_train(cell, settings) for cell in settings.axes.cells]
    funnel = [way for way, _ in trained]
    contrasts += [row for _, rows in trained for row in rows]
    reported = {env: reported_panel(settings.measured(env)) for env in settings.axes.envs}
    write_all(METRICS, systems, contrasts, funnel, reported)
    return f"{len(systems)} rows of systems, {len(contrasts)} contrasts"


def evaluated(settings: Settings, commit: str) -> tuple[list[SystemRow], list[ContrastRow]]:
    """Rows of all systems and contrasts. Every run on a panel, whoever played it, must have met the same tasks."""
    systems: list[SystemRow] = []
    contrasts: list[ContrastRow] = []
    for env in settings.axes.envs:
        studies = {cell: study_of(cell, settings) for cell in settings.axes.cells if cell.env == env}
        for panel in settings.measured(env):
            by_cell = {cell: read_runs(cell, panel, settings) for cell in studies}
            check_panel({name: run for runs in by_cell.values() for name, run in runs.items()}, panel_of(env, panel))
            for cell, runs in by_cell.items():
                study = studies[cell]
                systems += [system_row(run, study, commit) for run in runs.values()]
                resamples, seed = settings.stats.bootstrap, settings.stats.seed
                contrasts += contrast_rows(runs.values(), resamples, seed, study.graded)
                contrasts += skill_rows(runs.values(), study.withheld, resamples, seed, study.graded)
    return systems, contrasts


def study_of(cell: Cell, settings: Settings) -> Study:
    """What stands beside a cell's figures; a warm-up that is off withholds nothing."""
    answers = read(DATA / "hints" / cell / "answers.parquet", Answer)
    return Study(
        withheld=tuple(settings.warmup.hidden(cell.env)),
        strength=str(settings.warmup.strength) if settings.warmup.enabled else "",
        panel_source=panel_source(DATA / "panels" / cell.env),
        graded=plugins.environment(cell.env).graded,
        hint_basis=str(read_document(DATA / "hints" / cell / "writer.json", "basis")[0]),
        category_basis=str(settings.agent.category),
        shots=settings.agent.shots[cell.env],
        max_turns=settings.runner.max_turns[cell.env],
        k=settings.hints.k,
        overlaps=overlaps_of(DATA / "panels" / cell.env),
        left_out=left_out_of(DATA / "panels" / cell.env),
        write_tokens=sum(answer.prompt_tokens + answer.reply_tokens for answer in answers),
        write_dollars=sum(answer.dollars for answer in answers),
    )


def overlaps_of(panels: Path) -> list[Overlap]:
    """What the panels have in common; there is no file where that is nothing."""
    path = panels / "overlaps.json"
    found: list[Overlap] = read_document(path, "rows")[0] if path.is_file() else []
    return found


def left_out_of(panels: Path) -> dict[str, int]:
    """How many rows of the official files count for nothing, by reason; there is no file where all count."""
    path = panels / "left_out.json"
    found = read_document(path, "left_out")[0] if path.is_file() else {}
    return {reason: int(rows["count"]) for reason, rows in found.items()}


def panel_of(env: str, name: str) -> Panel:
    """A frozen panel as it stands on disk."""
    tasks, sha256 = load_panel(DATA / "panels" / env, name)
    return Panel(sha256, frozenset(task.task_id for task in tasks))


def read_runs(cell: Cell, panel: str, settings: Settings) -> Runs:
    """The evaluated runs of a cell on a panel; `ComparisonError` on a file of another system."""
    contenders: list[tuple[str, int | None]] = [
        (system, None) for system in ("base", *map(str, settings.axes.retrieval))
    ]
    students = [*settings.axes.arm, *map(aided, settings.axes.aided)]
    contenders += [(system, seed) for system in students for seed in settings.axes.seed]
    runs: Runs = {}
    for system, seed in contenders:
        name = f"{cell}_{label(system, seed or 0)}"
        path = DATA / "evals" / name / f"{panel}.parquet"
        runs[name] = read(path, Episode)
        for e in runs[name]:
            found = (e.env, e.agent, e.system, e.panel, e.seed if e.system in STUDENTS else None)
            expected = (cell.env, cell.agent, system, panel, seed)
            if found != expected:
                raise ComparisonError(f"{path}: {e.episode_id} is of {found}, not of {expected}; evaluate again")
    return runs


def on_train(cell: Cell, settings: Settings) -> tuple[FunnelRow, list[ContrastRow]]:
    """A cell's way from failures to lessons, counted, and what hints change for the untrained agent."""
    rollouts = read(DATA / "rollouts" / cell / "episodes.parquet", Episode)
    teacher = read(DATA / "teacher" / cell / "rag" / "episodes.parquet", Episode)
    study = study_of(cell, settings)
    way = funnel_row(
        panel=panel_of(cell.env, "train"),
        rollouts=rollouts,
        teacher=teacher,
        hints=read(DATA / "hints" / cell / "hints.parquet", Hint),
        bank=read(DATA / "hints" / cell / "bank.parquet", BankEntry),
        rejected=read(DATA / "hints" / cell / "rejected.parquet", Rejection),
        arms={arm: read_lessons(DATA / "lessons" / f"{cell}_{arm}") for arm in settings.axes.arm},
        study=study,
        student_epochs=settings.students[cell.env].epochs,
        matched=settings.lessons.match or "",
        others={
            other: read(DATA / "teacher" / cell / other / "episodes.parquet", Episode)
            for other in settings.axes.teacher
            if other != "rag"
        },
    )
    return way, contrast_rows([rollouts, teacher], settings.stats.bootstrap, settings.stats.seed, study.graded)


def read_lessons(folder: Path) -> LessonSet:
    """One arm's lessons and gates. Raises `RecordError` when gates.json is missing or of another form."""
    gates, dropped = read_document(folder / "gates.json", "gates", "dropped")
    return LessonSet(read(folder / "lessons.parquet", Lesson), gates, dropped)


def reported_panel(panels: Sequence[str]) -> str:
    """Of an environment's measured panels the one whose rows stand under `rows`: test, or the last one listed while tuning on others."""
    return PRIMARY_PANEL if PRIMARY_PANEL in panels else panels[-1]


def git_commit() -> str:
    """The commit checked out here; empty outside a git repository, or before its first commit."""
    try:
        done = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def write_all(
    folder: Path,
    systems: Sequence[SystemRow],
    contrasts: Sequence[ContrastRow],
    funnel: Sequence[FunnelRow],
    reported: Mapping[str, str],
) -> None:
    """Write the metric files and the CSVs for DVC plots. `reported` is each environment's panel, and the only one the CSVs show."""
    write_json(folder / "systems.json", by_panel(systems, reported))
    whole = [row for row in contrasts if row.tasks == "all"]
    by_skill = [dataclasses.asdict(row) for row in contrasts if row.tasks != "all"]
    write_json(folder / "contrasts.json", {**by_panel(whole, reported), "by_skill": by_skill})
    write_json(folder / "funnel.json", {"rows": [dataclasses.asdict(row) for row in funnel]})
    shown = [row for row in systems if row.panel == reported[row.env]]
    write_summary(folder / "summary", shown, [row for row in whole if row.panel == reported[row.env]])
    write_csv(folder / "plots" / "systems.csv", systems_table(shown))
    write_csv(folder / "plots" / "categories.csv", categories_table(shown))


def by_panel(rows: Sequence[SystemRow] | Sequence[ContrastRow], reported: Mapping[str, str]) -> dict[str, Any]:
    """Rows of the reported panels apart from the rest, so that `rows` holds each system or contrast once."""
    return {
        "rows": [dataclasses.asdict(row) for row in rows if row.panel == reported[row.env]],
        "other_panels": [dataclasses.asdict(row) for row in rows if row.panel != reported[row.env]],
    }


def write_summary(folder: Path, systems: Sequence[SystemRow], contrasts: Sequence[ContrastRow]) -> None:
    """The deciding figures, a file a system and nothing else beside them, all or nothing."""
    rows = [[dataclasses.asdict(row) for row in found] for found in (systems, contrasts)]
    with replacing(folder) as fresh:
        for cell, by_system in headline(*rows).items():
            for system, figures in by_system.items():
                path = fresh / cell / f"{system}.json"
                path.parent.mkdir(exist_ok=True)
                path.write_text(as_json(figures), encoding="utf-8")


def contender(row: SystemRow) -> str:
    """A name no other row of a plot has: bars of equal names would be added up."""
    return f"{row.env} {row.agent} {label(row.system, row.seed)}"


def systems_table(rows: Sequence[SystemRow]) -> list[dict[str, Any]]:
    """A line a system: success with its Wilson interval (fractions), billed tokens an episode."""
    return [
        {
            "system": contender(row),
            "success": row.success,
            "low": row.success_low,
            "high": row.success_high,
            "tokens": row.tokens_per_episode,
        }
        for row in rows
    ]


def categories_table(rows: Sequence[SystemRow]) -> list[dict[str, Any]]:
    """A line a system and task category of a cell: success (fraction) of n tasks."""
    return [
        {
            "system": label(row.system, row.seed),
            "category": f"{row.env} {row.agent} {category}",
            "success": found["success"],
            "n": found["n"],
        }
        for row in rows
        for category, found in row.by_category.items()
    ]


def tidy(value: Any) -> Any:
    """Plain values with floats at ten digits: what differs beyond is summation order, not a result."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, Mapping):
        return {key: tidy(v) for key, v in value.items()}
    return [tidy(v) for v in value] if isinstance(value, list) else value


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write one metric file, its schema version first, all or nothing."""
    with atomic(path) as temporary:
        temporary.write_text(as_json({"schema_version": SCHEMA_VERSION, **content}), encoding="utf-8")


def as_json(content: Mapping[str, Any]) -> str:
    """Plain values, tidied, as text."""
    return json.dumps(tidy(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table with a header line, all or nothing."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(tidy(dict(row)) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
