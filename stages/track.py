"""The `track` stage: the finished pipeline as MLflow runs and model versions.

    python -m stages.track

DVC holds the truth and this is a view of it. A stage that DVC restored from its cache makes no live run, so nothing is
logged while stages work: this last stage reads dvc.lock, the metrics and the students, and writes what the store lacks.
Running it again writes nothing. The store is MLFLOW_TRACKING_URI, or mlflow.db and mlartifacts/ in the project's root,
also for experiments that DVC runs elsewhere. A store that does not answer is reported and does not fail the pipeline.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.documents import read_curve, read_document
from stages.core.params import load
from stages.core.process import run_stage
from stages.core.records import Episode
from stages.tracking import runs, studies, traces, views
from stages.tracking.lockfile import Lockfile, read_lockfile
from stages.tracking.registry import Registered, register
from stages.tracking.store import Store, UnreachableError, open_store
from stages.tracking.study import CURVE, EVALS, Contender, check_adapter, read_contenders

if TYPE_CHECKING:  # else mlflow would be imported before stages.tracking has set what it reads then
    from mlflow.entities import Run

METRICS = Path("metrics")


@dataclass(frozen=True)
class Inputs:
    """All that is recorded, read and checked before the store is opened. `played` are the
    episodes of each system on the reported panel, by its name; `sample` the tasks whose episodes become traces, by cell."""

    settings: dict[str, Any]
    lock: Lockfile
    contenders: list[Contender]
    contrasts: list[dict[str, Any]]
    funnel: list[dict[str, Any]]
    played: dict[str, list[Episode]]
    sample: dict[str, list[str]]


@dataclass(frozen=True)
class Recorded:
    """What a pass over the store found and wrote."""

    study: str
    is_new: bool
    new: int
    known: int
    traces: int
    versions: Sequence[Registered]


def main() -> int:
    """Run the stage. 0 also when the store does not answer; 1 and a message for whatever else prevents recording."""
    return run_stage("track", "shows the results in MLflow", run)


def run() -> str:
    """Record what the store lacks, and say what was written and how to look at it."""
    inputs = read_inputs()
    try:
        with open_store(Path.cwd()) as store:
            return summary(record(store, inputs, os.environ.get("DVC_EXP_NAME", "")), store)
    except UnreachableError as error:
        return f"not recorded: {error}"


def read_inputs() -> Inputs:
    """Read the project in the working directory. Raises `SettingsError`, `LockError`, `InputError` or `RecordError`."""
    settings = load()
    lock = read_lockfile()
    files = {name: METRICS / f"{name}.json" for name in ("systems", "contrasts", "funnel")}
    contenders = read_contenders(files["systems"])
    contrasts = list(chain.from_iterable(read_document(files["contrasts"], "rows", "other_panels", "by_skill")))
    [funnel] = read_document(files["funnel"], "rows")
    for path in files.values():
        lock.check_file(path)
    for student in filter(lambda c: c.is_student, contenders):
        check_adapter(student.student_folder)
        read_curve(student.student_folder / CURVE)
    for contender in contenders:
        lock.output_md5(f"{EVALS}/{contender.name}")
    played = {contender.name: traces.episodes(contender) for contender in contenders}
    sample = {c.cell: traces.sample(played[c.name], settings.track.traces) for c in contenders if c.system == "base"}
    return Inputs(settings.model_dump(mode="json"), lock, contenders, contrasts, funnel, played, sample)


def record(store: Store, inputs: Inputs, experiment: str) -> Recorded:
    """Write what the store lacks of this workspace's state. The study is finished last, when nothing is missing."""
    views.describe(store)
    key = studies.study_key(inputs.lock, inputs.settings)
    known = runs.finished(store, key)
    name = known.data.tags[runs.STUDY] if known else studies.study_name(store, experiment)
    study = known or studies.create_study(store, key, name, inputs.contenders[0])
    systems, versions, new, shown = [], [], 0, 0
    for contender in inputs.contenders:
        run, is_new, added = record_system(store, inputs, contender, name)
        new, shown = new + is_new, shown + added
        systems.append((contender, run))
        if contender.is_student:
            versions.append(register(store, contender, run, inputs.lock))
    if known is None:
        studies.write_study(store, study, inputs.settings, systems, inputs.contrasts, inputs.funnel)
    studies.upload_report(store, study, inputs.lock)
    if known is None:
        runs.finish(store, study)
    return Recorded(name, known is None, new, len(systems) - new, shown, versions)


def record_system(store: Store, inputs: Inputs, contender: Contender, study: str) -> tuple[Run, bool, int]:
    """The run of a system, whether it is new, and how many traces were added to it. One that is known gets those that it lacks."""
    key = runs.system_key(contender, inputs.lock)
    known = runs.finished(store, key)
    run = known or runs.create_system(store, key, contender, inputs.lock, study)
    if known is None:
        runs.write_system(store, run, contender, inputs.lock)
    runs.join_study(store, run, study)
    wanted = inputs.sample.get(contender.cell, [])[int(run.data.tags.get(runs.TRACES, 0)) :]
    if wanted:
        by_task = {episode.task_id: episode for episode in inputs.played[contender.name]}
        traces.write_traces(store, run, [by_task[task] for task in wanted], int(contender.reported.get("shots", 0)))
        store.client.set_tag(run.info.run_id, runs.TRACES, str(len(inputs.sample[contender.cell])))
    if known is None:
        runs.finish(store, run)
    return run, known is None, len(wanted)


def summary(recorded: Recorded, store: Store) -> str:
    """What was written, and how to look at it."""
    new = sum(v.is_new for v in recorded.versions)
    lines = [
        f"study {recorded.study!r} is {'new' if recorded.is_new else 'known'}; runs of systems: {recorded.new} new, {recorded.known} known; "
        f"traces: {recorded.traces} new; model versions: {new} new, {len(recorded.versions) - new} known",
        *(f"  {v.note}" for v in recorded.versions),
        f"store: {store.shown}; look at it with ./run ui",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
