"""A study: one state of the workspace, which refers to the runs of its systems and holds what stands beside all of them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME

from stages.tracking.lockfile import Lockfile, digest
from stages.tracking.runs import KIND, LAYOUT, STUDY, create, log_table, write_params
from stages.tracking.store import Store
from stages.tracking.study import Contender, flatten

REPORT = Path("report")
_REPORT_MD5 = "report.md5"
_NAMED = 60  # characters of a study's name
_NOTE = 7900  # characters of a note; MLflow cuts it at 8,000


def study_key(lock: Lockfile, settings: dict[str, Any]) -> str:
    """What determines a study: every stage's inputs and outputs, and the settings but those of `track` itself."""
    return digest(
        [LAYOUT, "study", lock.state_key({name: value for name, value in settings.items() if name != "track"})]
    )


def study_name(store: Store, experiment: str) -> str:
    """A new study's name: DVC's of the experiment, else what it changes against the committed settings; a number where it is taken."""
    name = (experiment or _changes()).replace("|", "/")  # which parts the names in a system's tag
    taken = {
        run.data.tags.get(STUDY) for run in store.client.search_runs([store.experiment_id], f"tags.{KIND} = 'study'")
    }
    return next(n for n in (name, *(f"{name} ({i})" for i in range(2, len(taken) + 3))) if n not in taken)


def create_study(store: Store, key: str, name: str, counted: Contender) -> Run:
    """The run of a study, without its contents yet; `counted` is any of its systems."""
    commit = str(counted.reported.get("git_commit", ""))
    tags = {STUDY: name, MLFLOW_SOURCE_NAME: "dvc repro", MLFLOW_GIT_COMMIT: commit}
    return create(store, key, "study", f"study: {name}", tags)


def write_study(
    store: Store,
    run: Run,
    settings: Mapping[str, Any],
    systems: Sequence[tuple[Contender, Run]],
    contrasts: Sequence[Mapping[str, Any]],
    funnel: Sequence[Mapping[str, Any]],
) -> None:
    """Settings, the systems with their runs, contrasts, and the funnel from failures to lessons."""
    write_params(store, run, flatten(settings))
    rows = [{"system": c.title, "result": r.data.tags.get("result", ""), "run": r.info.run_id} for c, r in systems]
    log_table(store, run, "systems", rows)
    for name, found in (("contrasts", contrasts), ("funnel", funnel)):
        flat = [{n: v for n, v in row.items() if not isinstance(v, dict | list)} for row in found]
        if flat:
            log_table(store, run, name, flat)


def upload_report(store: Store, run: Run, lock: Lockfile) -> None:
    """Attach the report, and say on the run's page what it says in short, unless this very report is there already."""
    if not (REPORT / "index.html").is_file():
        return
    md5 = lock.output_md5(REPORT.as_posix())
    if run.data.tags.get(_REPORT_MD5) == md5:
        return
    store.client.log_artifacts(run.info.run_id, str(REPORT), "report")
    summary = REPORT / "report.md"
    if summary.is_file():
        note = summary.read_text(encoding="utf-8")
        if len(note) > _NOTE:  # whole sections only
            note = note[: note.rfind("\n## ", 0, _NOTE)] + "\n\nThe rest is in the artifact report/report.md."
        store.client.set_tag(run.info.run_id, MLFLOW_RUN_NOTE, note)
    store.client.set_tag(run.info.run_id, _REPORT_MD5, md5)


def _changes() -> str:
    now, committed = _settings(Path("params.yaml").read_text(encoding="utf-8")), _committed()
    if committed is None:
        return "study"
    changed = [
        f"{name}={now.get(name, 'none')}"
        for name in sorted(now.keys() | committed.keys())
        if now.get(name) != committed.get(name)
    ]
    name = ", ".join(changed) or "committed settings"
    return name if len(name) <= _NAMED else f"{name[: _NAMED - 1]}…"


def _committed() -> Mapping[str, str] | None:
    """The settings of the last commit; None where there is none."""
    try:
        shown = subprocess.run(["git", "show", "HEAD:./params.yaml"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return _settings(shown.stdout) if shown.returncode == 0 else None


def _settings(text: str) -> Mapping[str, str]:
    found = yaml.safe_load(text)
    return flatten(found) if isinstance(found, dict) else {}
