"""Runs: a parent for a workspace state, a child for each contender evaluated in it.

A run carries its key from the moment it is created and is FINISHED only when complete. So a run that is found FINISHED
is left alone, and one that a killed process left RUNNING is written again in place: every point has the run's start as
its time, so points already there are not doubled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunStatus
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID

from stages.tracking.lockfile import Lockfile, digest, file_md5
from stages.tracking.store import Store
from stages.tracking.study import EVALS, Contender, figures, masked, read_curve

KEY = "hintdistill.key"
LAYOUT = 1  # of the runs; raise it when their meaning changes, and states are recorded anew
REPORT_MD5 = "report.md5"
FINISHED = RunStatus.to_string(RunStatus.FINISHED)

_CHILD_TAGS = (  # of the row of the reported panel
    *("env", "agent", "system", "seed", "model", "engine"),
    *("panel_sha256", "panel_source", "strength", "git_commit"),
)
_PARAMS_A_BATCH = 100  # limits of MLflow
_METRICS_A_BATCH = 1000


@dataclass(frozen=True)
class Opened:
    """A run by key; `is_new` when this process created it, `is_complete` when an earlier one finished it."""

    run: Run
    is_new: bool
    is_complete: bool

    @property
    def run_id(self) -> str:
        return str(self.run.info.run_id)

    @property
    def time(self) -> int:
        """The time all its points bear, in milliseconds."""
        return int(self.run.info.start_time)


def open_parent(
    store: Store, lock: Lockfile, settings: dict[str, Any], contenders: Sequence[Contender], experiment: str
) -> Opened:
    """The run of this workspace state. `experiment` is DVC's name of it, empty outside of one."""
    key = digest({"layout": LAYOUT, "state": lock.state_key(settings)})
    commits = sorted({str(row.get("git_commit", "")) for c in contenders for row in c.rows.values()})
    tags = {f"dvc.stage.{name.replace('@', '/')}": stage_key for name, stage_key in lock.stage_keys().items()}
    tags |= {"git_commit": ", ".join(commits), MLFLOW_GIT_COMMIT: commits[-1], "dvc.exp_name": experiment}
    return _open(store, key, experiment or f"state {key[:8]}", tags)


def write_parent(
    store: Store,
    parent: Opened,
    settings: Mapping[str, str],
    contrasts: Sequence[Mapping[str, Any]],
    funnel: Sequence[Mapping[str, Any]],
) -> None:
    """What stands beside all contenders: flat settings, contrasts, the funnel from failures to lessons."""
    values: dict[str, float] = {}
    for row in contrasts:
        place = [row.get("panel", "test"), row["env"], row["agent"], f"{row['a']}-{row['b']}", row["metric"]]
        values |= {f"contrast.{'.'.join(place)}.{name}": value for name, value in figures(row).items()}
    for row in funnel:
        values |= {f"funnel.{row['env']}.{row['agent']}.{name}": value for name, value in figures(row).items()}
    params = [Param(name, value) for name, value in settings.items()]
    for start in range(0, len(params), _PARAMS_A_BATCH):
        store.client.log_batch(parent.run_id, params=params[start : start + _PARAMS_A_BATCH])
    _log(store, parent, [(name, value, 0) for name, value in values.items()])


def upload_report(store: Store, parent: Opened, report: Path) -> None:
    """Attach the report to the parent, unless these very bytes are there already."""
    if not report.is_file():
        return
    md5 = file_md5(report)
    if parent.run.data.tags.get(REPORT_MD5) != md5:
        store.client.log_artifact(parent.run_id, str(report), "report")
        store.client.set_tag(parent.run_id, REPORT_MD5, md5)


def open_child(store: Store, parent: Opened, contender: Contender, lock: Lockfile) -> Opened:
    """The run of a contender in the parent's state. Raises `LockError` when DVC knows no evaluation of it."""
    row = contender.reported
    tags = {
        MLFLOW_PARENT_RUN_ID: parent.run_id,
        MLFLOW_GIT_COMMIT: str(row.get("git_commit", "")),
        "dvc.md5": lock.output_md5(f"{EVALS}/{contender.name}"),
        "arm": contender.system if contender.is_student else "",
        **{name: str(row.get(name, "")) for name in _CHILD_TAGS},
        **{f"{panel}.panel_sha256": found["panel_sha256"] for panel, found in contender.rows.items()},
    }
    return _open(store, digest([parent.run.data.tags[KEY], contender.name]), contender.name, tags)


def write_child(store: Store, child: Opened, contender: Contender) -> None:
    """A contender's figures by panel, and a student's learning curve; then the run is finished."""
    points = [
        (f"{panel}.{name}", value, 0) for panel, row in contender.rows.items() for name, value in figures(row).items()
    ]
    if contender.is_student:
        for step in read_curve(Path(contender.student_folder)):
            number = int(step.pop("step"))
            points += [(f"train.{name}", value, number) for name, value in step.items()]
    _log(store, child, points)
    finish(store, child)


def finish(store: Store, opened: Opened) -> None:
    """Mark a run as complete."""
    store.client.set_terminated(opened.run_id, FINISHED)


def _open(store: Store, key: str, name: str, tags: Mapping[str, str]) -> Opened:
    """The run with this key; created with all its tags at once when there is none, so that a kill leaves no double."""
    found = store.client.search_runs([store.experiment_id], f"tags.`{KEY}` = '{key}'")
    if found:
        complete = [run for run in found if run.info.status == FINISHED]
        return Opened((complete or found)[0], is_new=False, is_complete=bool(complete))
    filled = {tag: masked(value) for tag, value in tags.items() if value}
    created = store.client.create_run(store.experiment_id, tags={KEY: key, **filled}, run_name=name)
    return Opened(created, is_new=True, is_complete=False)


def _log(store: Store, opened: Opened, points: Sequence[tuple[str, float, int]]) -> None:
    """Write (name, value, step) points in as few requests as MLflow allows."""
    metrics = [Metric(name, value, opened.time, step) for name, value, step in points]
    for start in range(0, len(metrics), _METRICS_A_BATCH):
        store.client.log_batch(opened.run_id, metrics=metrics[start : start + _METRICS_A_BATCH])
