"""Runs: one for each evaluation of a system, and one for each study, which refers to those of its systems.

A run carries its key from the moment it is created and is FINISHED only when complete. One that is found FINISHED is left alone; one
that a killed process left RUNNING is deleted with its traces, and recorded anew.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunStatus
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_GIT_COMMIT,
    MLFLOW_SOURCE_NAME,
    MLFLOW_SOURCE_TYPE,
    MLFLOW_USER,
)

from stages.core import plugins
from stages.core.documents import read_curve
from stages.reporting.words import fraction, percent, whole_interval
from stages.tracking.lockfile import Lockfile, digest
from stages.tracking.store import Store
from stages.tracking.study import CURVE, EVALS, Contender, flatten, masked

KEY = "hintdistill.key"
KIND = "kind"  # of a run: system or study
STUDY, STUDIES = "study", "studies"  # that a system was first recorded in; all it is part of, as |one|other|
TRACES = "traces"  # how many of a system there are
LAYOUT = 2  # of the runs; raise it when their meaning changes, and all is recorded anew
FINISHED = RunStatus.to_string(RunStatus.FINISHED)

_DIGEST = 36  # characters of a dataset's digest at most, a limit of MLflow
# Figures that runs are compared by, and what metrics/systems.json calls them. All others are in the tables.
_FIGURES = {
    **{name: (name,) for name in ("n", "success", "success_low", "success_high", "score", "steps")},
    **{"known": ("skills", "known", "success"), "withheld": ("skills", "withheld", "success")},
    **{"tokens": ("tokens_per_episode",), "computed tokens": ("computed_tokens_per_episode",)},
    **{
        "tokens a success": ("cost", "tokens_per_success"),
        "write tokens": ("tokens", "write"),
        "refused": ("invalid_rate",),
    },
}
_ELSEWHERE = ("success", "score")  # of these figures, on the panels that are not reported


def finished(store: Store, key: str) -> Run | None:
    """The complete run with this key. Incomplete ones, left by a killed process, are deleted."""
    complete = None
    for run in store.client.search_runs([store.experiment_id], f"tags.`{KEY}` = '{key}'"):
        if run.info.status == FINISHED:
            complete = run
        else:
            remove(store, run)
    return complete


def remove(store: Store, run: Run) -> None:
    """Delete a run and its traces."""
    of_run = {"locations": [store.experiment_id], "run_id": run.info.run_id, "include_spans": False}
    while found := store.client.search_traces(**of_run):
        store.client.delete_traces(store.experiment_id, trace_ids=[trace.info.trace_id for trace in found])
    store.client.delete_run(run.info.run_id)


def create(store: Store, key: str, kind: str, name: str, tags: Mapping[str, str]) -> Run:
    """A run with its key and all its tags from the beginning, so that a kill leaves no double."""
    filled = {tag: masked(value) for tag, value in tags.items() if value}
    own = {KEY: key, KIND: kind, MLFLOW_SOURCE_TYPE: "LOCAL", MLFLOW_USER: _user()}
    return store.client.create_run(store.experiment_id, tags=own | filled, run_name=name)


def finish(store: Store, run: Run) -> None:
    """Mark a run as complete."""
    store.client.set_terminated(run.info.run_id, FINISHED)


def system_key(contender: Contender, lock: Lockfile) -> str:
    """What determines the run of a system: its evaluation, and the figures counted from it. Raises `LockError` when DVC knows none."""
    rows = {panel: _counted(row) for panel, row in contender.rows.items()}
    return digest([LAYOUT, contender.name, lock.output_md5(f"{EVALS}/{contender.name}"), rows])


def create_system(store: Store, key: str, contender: Contender, lock: Lockfile, study: str) -> Run:
    """The run of a system, without its figures yet."""
    row = contender.reported
    output = f"{EVALS}/{contender.name}"
    tags = {
        MLFLOW_SOURCE_NAME: lock.command(output),
        MLFLOW_GIT_COMMIT: str(row.get("git_commit", "")),
        STUDY: study,
        STUDIES: f"|{study}|",
        "cell": contender.cell,
        "system": contender.system,
        "seed": str(contender.seed) if contender.is_seeded else "",
        "panel": f"{row['panel']}, {row['n']} tasks",
        "result": result(row),
        "score": "" if row.get("score") is None else f"{row['score']:.1f}",
        "tokens": f"{row['tokens_per_episode']:,.0f}",
        "steps": f"{row['steps']:.1f}",
        **{f"{skill} skills": fraction(row.get("skills", {}).get(skill)) for skill in ("known", "withheld")},
        **{name: str(row.get(name, "")) for name in ("model", "engine", "panel_source")},
        **{f"{panel}.panel_sha256": found["panel_sha256"] for panel, found in contender.rows.items()},
        "dvc.md5": lock.output_md5(output),
    }
    return create(store, key, "system", contender.title, tags)


def write_system(store: Store, run: Run, contender: Contender, lock: Lockfile) -> None:
    """A system's settings, figures, tables, panels and, for a student, its learning curve."""
    write_params(store, run, _settings(contender, lock))
    time = run.info.start_time
    points = [(name, value, 0) for name, value in _figures(contender).items()]
    if contender.is_student:
        for step in read_curve(contender.student_folder / CURVE):
            number = int(step.pop("step"))
            points += [(f"train {name.replace('_', ' ')}", value, number) for name, value in step.items()]
    store.client.log_batch(run.info.run_id, [Metric(name, value, time, step) for name, value, step in points])
    store.client.log_inputs(run.info.run_id, [_dataset(contender, panel) for panel in contender.rows])
    for name, rows in _tables(contender).items():
        if rows:
            log_table(store, run, name, rows)


def write_params(store: Store, run: Run, settings: Mapping[str, str]) -> None:
    """Settings under dotted names."""
    store.client.log_batch(run.info.run_id, params=[Param(name, value) for name, value in settings.items()])


def log_table(store: Store, run: Run, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table for MLflow's table viewer; what a row lacks is an empty cell."""
    columns = dict.fromkeys(column for row in rows for column in row)
    shown = {c: [masked(v) if isinstance(v := row.get(c), str) else v for row in rows] for c in columns}
    store.client.log_table(run.info.run_id, shown, f"{name}.json")


def join_study(store: Store, run: Run, study: str) -> None:
    """Note on a system's run that a study refers to it."""
    studies = run.data.tags.get(STUDIES, "|")
    if f"|{study}|" not in studies:
        store.client.set_tag(run.info.run_id, STUDIES, f"{studies}{study}|")


def result(row: Mapping[str, Any]) -> str:
    """Success of a row of metrics/systems.json with its 95 % interval: `73.3 % (61-83)`."""
    return f"{percent(row['success'])} ({whole_interval(row['success_low'], row['success_high'])})"


def _settings(contender: Contender, lock: Lockfile) -> dict[str, str]:
    """What the system depends on. DVC's graph says more: what one cell stands on, a stage reads for all of them."""
    others = set(plugins.names("envs")) - {contender.env}
    found = flatten(lock.settings_behind(f"{EVALS}/{contender.name}"))
    return {
        name: value
        for name, value in found.items()
        if others.isdisjoint(name.split(".")) and (contender.is_seeded or not name.startswith("students."))
    }


def _counted(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "git_commit"}


def _figures(contender: Contender) -> dict[str, float]:
    """Few figures by name: the reported panel's, and of the other panels what a choice is made by."""
    found: dict[str, float] = {}
    for panel, row in contender.rows.items():
        reported = row is contender.reported
        for name, path in _FIGURES.items():
            value: Any = row
            for part in path:
                value = value.get(part) if isinstance(value, Mapping) else None
            if isinstance(value, int | float) and (reported or name in _ELSEWHERE):
                found[name if reported else f"{panel} {name}"] = float(value)
    return found


def _tables(contender: Contender) -> dict[str, list[dict[str, Any]]]:
    """All figures of a system, by panel, and those by task category and skill."""
    rows = contender.rows
    flat = [
        {"panel": panel, **{n: v for n, v in row.items() if not isinstance(v, dict | list)}}
        for panel, row in rows.items()
    ]
    shares = [
        {"panel": panel, "of": kind, "name": name, **found}
        for panel, row in rows.items()
        for kind in ("by_category", "skills")
        for name, found in row.get(kind, {}).items()
    ]
    return {"figures": flat, "categories": shares}


def _dataset(contender: Contender, panel: str) -> DatasetInput:
    """A measured panel, known by its hash."""
    row = contender.rows[panel]
    source = {"uri": f"data/panels/{contender.env}/{panel}.parquet"}
    dataset = Dataset(
        name=f"{contender.env} {panel} panel",
        digest=row["panel_sha256"][:_DIGEST],
        source_type="dvc",
        source=json.dumps(source),
        profile=json.dumps({"tasks": row["n"] + row.get("machine_failures", 0), "sha256": row["panel_sha256"]}),
    )
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, panel)])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""
