"""Model versions: each student's adapter folder, what it is, and the alias of the best one.

The folder is uploaded as it is. MLflow's own transformers flavour saves a LoRA model with a local base wrongly: its
query and value weights come back random. The newest version is `models:/NAME/latest`, a name that MLflow keeps to itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlflow.entities import LoggedModel, LoggedModelInput, LoggedModelStatus, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from stages.reporting.words import percent
from stages.tracking.cards import family, model_card
from stages.tracking.lockfile import Lockfile
from stages.tracking.store import Store
from stages.tracking.study import Contender, check_adapter

ALIAS = "champion"
MD5 = "dvc.md5"
PANEL = "dev.panel_sha256"
VERSION = "model version"  # of a run's student


@dataclass(frozen=True)
class Registered:
    """A student's version; `note` tells in a line what came of it."""

    is_new: bool
    note: str


def register(store: Store, student: Contender, run: Run, lock: Lockfile) -> Registered:
    """The version that holds these weights, made when missing; the alias is its own if it is better than the champion.

    Weights are known by the DVC hash of the student's folder. Evaluated anew, a version carries the newest figures.
    Raises `LockError` or `InputError` when the student's folder is unknown to DVC or incomplete.
    """
    name = model_name(student)
    md5 = lock.output_md5(student.student_folder.as_posix())
    tags = {MD5: md5, **_tags(student)}
    version = _version(store, name, md5, student)
    is_new = version is None
    if version is None:
        model = _logged_model(store, name, md5, student, run)
        version = store.client.create_model_version(
            name, f"models:/{model.model_id}", run.info.run_id, tags, model_id=model.model_id
        )
    _describe(store, version, student, tags)
    _link(store, version, run)
    return Registered(is_new, f"{name} version {version.version}: {_promote(store, name, version, student)}")


def _describe(store: Store, version: ModelVersion, student: Contender, tags: dict[str, str]) -> None:
    """Let a version say of its student what the newest evaluation says, and nothing that only an older one said."""
    name, number = version.name, version.version
    for tag in tags:
        if version.tags.get(tag) != tags[tag]:
            store.client.set_model_version_tag(name, number, tag, tags[tag])
    for tag in version.tags.keys() - tags:
        store.client.delete_model_version_tag(name, number, tag)
    card = model_card(student, f"models:/{name}/{number}")
    if version.description != card:
        store.client.update_model_version(name, number, card)


def model_name(student: Contender) -> str:
    """The registered model that holds the versions of all seeds."""
    return f"hintdistill-{student.env}-{student.agent}-{student.system}"


def _tags(student: Contender) -> dict[str, str]:
    """What a version says of its student; figures of the dev panel only where it was evaluated on that."""
    row = student.reported
    tags = {
        **{"env": student.env, "agent": student.agent, "arm": student.system, "seed": str(student.seed)},
        **{"base_model": student.base, "git_commit": str(row.get("git_commit", ""))},
        **{panel: f"{percent(found['success'])} of {found['n']} tasks" for panel, found in student.rows.items()},
    }
    dev = student.rows.get("dev")
    if dev is not None:
        tags |= {f"dev.{m}": repr(float(dev[m])) for m in sorted({"success", student.primary})}
        tags[PANEL] = dev["panel_sha256"]
    return {tag: value for tag, value in tags.items() if value}


def _version(store: Store, name: str, md5: str, student: Contender) -> ModelVersion | None:
    """The version of these weights, or None; the registered model is made when missing."""
    try:
        store.client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        store.client.create_registered_model(name, description=family(student))
        return None
    found = store.client.search_model_versions(f"name = '{name}' AND tags.`{MD5}` = '{md5}'")
    return found[0] if found else None


def _logged_model(store: Store, name: str, md5: str, student: Contender, run: Run) -> LoggedModel:
    """The uploaded adapter folder. What a killed process left half uploaded is deleted, and uploaded anew."""
    adapter = check_adapter(student.student_folder)
    for known in store.client.search_logged_models(
        [store.experiment_id], f"name = '{name}' AND tags.`{MD5}` = '{md5}'"
    ):
        if known.status == LoggedModelStatus.READY:
            return known
        store.client.delete_logged_model(known.model_id)
    tags = {MD5: md5, "seed": str(student.seed)}
    model = store.client.create_logged_model(store.experiment_id, name, run.info.run_id, tags, model_type="adapter")
    store.client.log_model_artifacts(model.model_id, str(adapter))
    return store.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _link(store: Store, version: ModelVersion, run: Run) -> None:
    """Show the adapter as the run's model: what it evaluated. As what it made, MLflow would leave the run out of its evaluation runs."""
    model = str(version.source).removeprefix("models:/")
    inputs = store.client.get_run(run.info.run_id).inputs  # a search leaves them out
    if inputs is None or model not in {entry.model_id for entry in inputs.model_inputs}:
        store.client.log_inputs(run.info.run_id, models=[LoggedModelInput(model)])
    if run.data.tags.get(VERSION) != str(version.version):
        store.client.set_tag(run.info.run_id, VERSION, str(version.version))


def _promote(store: Store, name: str, version: ModelVersion, student: Contender) -> str:
    """Move the alias if the version is strictly better on the champion's very own dev panel; says what was done."""
    metric = f"dev.{student.primary}"
    own = _tags(student)
    if metric not in own:
        return f"not evaluated on the dev panel, {ALIAS} stays"
    holder = store.client.get_registered_model(name).aliases.get(ALIAS)
    score = f"{metric} {float(own[metric]):.3f}"
    if holder == version.version:
        return f"is the {ALIAS} ({score})"
    if holder is not None:
        best = store.client.get_model_version(name, holder).tags
        if best.get(PANEL) != own[PANEL]:
            return f"{ALIAS} stays version {holder}: measured on another dev panel, so not comparable ({score})"
        if float(own[metric]) <= float(best[metric]):
            return f"{ALIAS} stays version {holder} ({float(best[metric]):.3f}, here {score})"
    store.client.set_registered_model_alias(name, ALIAS, version.version)
    return f"{ALIAS} moved here from {f'version {holder}' if holder else 'nobody'} ({score})"
