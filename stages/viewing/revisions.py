"""States of the project: the workspace, a commit, an experiment; what git holds of each, and its episodes from DVC's cache."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from stages.core.documents import parse_document
from stages.core.params import flat
from stages.core.process import Fault
from stages.core.records import Episode, read
from stages.tracking.lockfile import unmerged

WORKSPACE = "workspace"
SHOWN = ("params.yaml", "dvc.lock", "metrics")  # what of the workspace makes it another state than HEAD
_NEEDED = {  # of a row, so that states of an older code are compared as long as they have these
    "systems": (
        *("env", "agent", "system", "seed", "panel", "panel_sha256"),
        *("success", "score", "skills", "withheld", "tokens_per_episode"),
    ),
    "contrasts": ("env", "agent", "a", "b", "primary", "difference", "p_value"),
}
_EXPERIMENTS = "refs/exps/"
_PARTS = (
    5  # refs/exps/<2 digits of the commit it started from>/<38 digits>/<name>; other references there are DVC's own
)


class RevisionError(Fault, LookupError):
    """A state that is not there, is several, or holds nothing to compare: says which, and what there is."""


@dataclass(frozen=True)
class Revision:
    """A state under the name it is shown by; `commit` is empty for the workspace."""

    name: str
    commit: str = ""
    is_experiment: bool = False

    def text(self, path: str) -> str | None:
        """A file that git tracks, as it is in this state; None where it has none."""
        if not self.commit:
            return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None
        return _git("show", f"{self.commit}:./{path}")

    @cached_property
    def settings(self) -> dict[str, Any]:
        """params.yaml, a dotted key a value; lists stay whole. Raises `RevisionError`."""
        return flat(self._yaml("params.yaml"))

    @cached_property
    def stages(self) -> dict[str, dict[str, Any]]:
        """The entries of dvc.lock by stage. Raises `RevisionError`."""
        stages: dict[str, dict[str, Any]] = self._yaml("dvc.lock").get("stages") or {}
        return stages

    @cached_property
    def systems(self) -> list[dict[str, Any]]:
        """The reported rows of metrics/systems.json. Raises `RevisionError` or `RecordError`."""
        return self._rows("systems")

    @cached_property
    def contrasts(self) -> list[dict[str, Any]]:
        """The reported rows of metrics/contrasts.json. Raises `RevisionError` or `RecordError`."""
        return self._rows("contrasts")

    def number(self, setting: str) -> int:
        """A whole number of params.yaml. Raises `RevisionError`."""
        found = self.settings.get(setting)
        if not isinstance(found, int):
            raise RevisionError(f"{self.name}: params.yaml has {setting} {found!r}; a whole number is expected")
        return found

    def output(self, path: str) -> str:
        """DVC's hash of an output in this state; empty where no stage made it."""
        outs = (out for stage in self.stages.values() for out in stage.get("outs", []))
        return next((str(out["md5"]) for out in outs if out["path"] == path), "")

    def episodes(self, name: str, panel: str) -> list[Episode] | None:
        """The episodes of data/evals/`name` on a panel; None where DVC's cache lacks them. Raises `RecordError` for a table of another form."""
        folder = cached(self.output(f"data/evals/{name}"))
        if folder is None:
            return None
        files = {entry["relpath"]: entry["md5"] for entry in json.loads(folder.read_text(encoding="utf-8"))}
        table = cached(files.get(f"{panel}.parquet", ""))
        return None if table is None else read(table, Episode)

    @property
    def remedy(self) -> str:
        """The command that brings its episodes from a remote."""
        if self.is_experiment:
            return f"dvc exp pull GIT_REMOTE {self.name}"
        return "dvc fetch --all-commits" if self.commit else "dvc pull"

    def _yaml(self, path: str) -> dict[str, Any]:
        text = self.text(path)
        if text is None:
            raise RevisionError(f"{self.name}: has no {path}, so it is no state of this project that was ever run")
        if path == "dvc.lock" and (advice := unmerged(text)):
            raise RevisionError(f"{self.name}: {path}: {advice}")
        try:
            found = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError as error:
            raise RevisionError(f"{self.name}: {path} is no readable YAML ({error})") from error
        if not isinstance(found, dict):
            raise RevisionError(f"{self.name}: {path} holds no keys")
        return found

    def _rows(self, name: str) -> list[dict[str, Any]]:
        path = f"metrics/{name}.json"
        text = self.text(path)
        if text is None:
            raise RevisionError(f"{self.name}: has no {path}; run `dvc repro metrics` there")
        rows: list[dict[str, Any]]
        [rows] = parse_document(text, f"{self.name}: {path}", "rows")
        try:
            lacking = {key for row in rows for key in _NEEDED[name] if key not in row}
        except TypeError as error:
            raise RevisionError(
                f"{self.name}: {path} holds no rows ({error}); run `dvc repro metrics` there"
            ) from error
        if lacking:
            raise RevisionError(
                f"{self.name}: {path} is of another version of the code, without {', '.join(sorted(lacking))}"
            )
        return rows


def find_revision(name: str) -> Revision:
    """The workspace, an experiment, or a commit by any name git knows. Raises `RevisionError`."""
    if name == WORKSPACE:
        return Revision(WORKSPACE)
    same = {place: commit for place, commit in experiments().items() if place.endswith(f"/{name}")}
    if len(same) > 1:
        ids = ", ".join(commit[:7] for commit in same.values())
        raise RevisionError(
            f"{name}: {len(same)} experiments have this name, started from different commits; name one by its own: {ids}"
        )
    for commit in same.values():
        return Revision(name, commit, is_experiment=True)
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found is None:
        known = sorted({place.rpartition("/")[2] for place in experiments()})
        raise RevisionError(
            f"{name}: no commit, branch, tag or experiment; experiments here: {', '.join(known) or 'none'}"
        )
    commit = found.strip()
    called = [place.rpartition("/")[2] for place, known_commit in experiments().items() if known_commit == commit]
    return Revision(called[0] if called else name, commit, is_experiment=bool(called))


def usual_revisions() -> list[Revision]:
    """HEAD, the workspace if it differs, and the experiments that started from HEAD. Raises `RevisionError` if that is HEAD alone."""
    head = find_revision("HEAD")
    found = [head, *([Revision(WORKSPACE)] if _git("status", "--porcelain", "--", *SHOWN) else [])]
    found += started_from(head).values()
    if len(found) == 1:
        others = sorted({place.rpartition("/")[2] for place in experiments()})
        raise RevisionError(
            "nothing to compare: the workspace is HEAD, and no experiment started from there. Name two states; "
            f"experiments from other commits: {', '.join(others) or 'none'}"
        )
    return found


def started_from(revision: Revision) -> dict[str, Revision]:
    """The experiments that started from a commit, by their names."""
    place = f"{_EXPERIMENTS}{revision.commit[:2]}/{revision.commit[2:]}/"
    names = {p.removeprefix(place): commit for p, commit in experiments().items() if p.startswith(place)}
    return {name: Revision(name, commit, True) for name, commit in names.items()}


def experiments() -> dict[str, str]:
    """The commits of all experiments by their references, the oldest first."""
    listed = _git("for-each-ref", "--sort=creatordate", "--format=%(refname) %(objectname)", _EXPERIMENTS) or ""
    pairs = [line.split() for line in listed.splitlines()]
    return {name: commit for name, commit in pairs if name.count("/") == _PARTS - 1 and len(name.split("/")[2]) == 2}


def cached(md5: str) -> Path | None:
    """A file or a folder's listing in DVC's cache; None where it is not."""
    path = _cache(Path.cwd()) / md5[:2] / md5[2:]
    return path if md5 and path.is_file() else None


@cache
def _cache(project: Path) -> Path:
    """Where the project's cache lies, also when it is shared."""
    from dvc.repo import Repo  # takes a second to import

    with Repo(str(project)) as repo:
        return Path(repo.cache.local.path)


def _git(*arguments: str) -> str | None:
    """What git prints; None where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None
