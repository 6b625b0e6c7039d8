"""dvc.lock: what each stage read and wrote, as keys that say whether a state was recorded before."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.core.process import Fault

VIEWS = ("report", "track")  # stages that only show results: a state is the same before and after them


class LockError(Fault, ValueError):
    """dvc.lock is missing, no lock file, or tells of other files than those at hand; the message says what to do."""


@dataclass(frozen=True)
class Lockfile:
    """The stages of dvc.lock by name; a matrix stage's name is `stage@values`."""

    path: Path
    stages: dict[str, dict[str, Any]]

    def stage_keys(self) -> dict[str, str]:
        """A key for each stage but the views, from its command, dependencies, parameters and outputs."""
        parts = ("cmd", "deps", "params", "outs")
        return {
            name: digest({part: entry.get(part) for part in parts})
            for name, entry in sorted(self.stages.items())
            if name.split("@")[0] not in VIEWS
        }

    def state_key(self, settings: dict[str, Any]) -> str:
        """A key of the workspace's state: all stages but the views, and the settings."""
        return digest({"stages": self.stage_keys(), "settings": settings})

    def command(self, path: str) -> str:
        """The command that writes an output. Raises `LockError` when no stage has written it."""
        return " ".join(str(self._writer(path)["cmd"]).split())

    def settings_behind(self, path: str) -> dict[str, Any]:
        """All settings that an output depends on, through every stage before it, under dotted names."""
        writers = {out["path"]: entry for entry in self.stages.values() for out in entry.get("outs", [])}
        found: dict[str, Any] = {}
        pending, seen = [self._writer(path)], set[str]()
        while pending:
            entry = pending.pop()
            for values in entry.get("params", {}).values():
                found |= values
            for dep in entry.get("deps", []):
                # A dependency may be a folder that several stages write into, or a file within an output.
                for out, writer in writers.items():
                    if out not in seen and _overlap(out, dep["path"]):
                        seen.add(out)
                        pending.append(writer)
        return found

    def output_md5(self, path: str) -> str:
        """The DVC hash of an output. Raises `LockError` when no stage has written it."""
        found = self._outputs().get(path)
        if found is None:
            raise self._unknown(path)
        return found

    def check_file(self, path: Path) -> None:
        """Raise `LockError` when a file differs from what a stage has written. Files that DVC does not know pass."""
        recorded = self._outputs().get(path.as_posix())
        if recorded and recorded != file_md5(path):
            raise LockError(f"{path}: differs from what {self.path} recorded (md5 {recorded}); run `dvc repro`")

    def _writer(self, path: str) -> dict[str, Any]:
        for entry in self.stages.values():
            if any(out["path"] == path for out in entry.get("outs", [])):
                return entry
        raise self._unknown(path)

    def _unknown(self, path: str) -> LockError:
        return LockError(f"{self.path}: no stage has written {path}; run `dvc repro`")

    def _outputs(self) -> dict[str, str]:
        outs = [out for stage in self.stages.values() for out in stage.get("outs", [])]
        return {out["path"]: out["md5"] for out in outs if "md5" in out}


def read_lockfile(path: Path = Path("dvc.lock")) -> Lockfile:
    """Read dvc.lock. Raises `LockError` when it is missing or not of DVC's format."""
    if not path.is_file():
        raise LockError(f"{path}: no such file; run `dvc repro` first, in the project's root")
    try:
        text = path.read_text(encoding="utf-8")
        if advice := unmerged(text):
            raise LockError(f"{path}: {advice}")
        content = yaml.safe_load(text)
        stages = content["stages"]
        if not all(isinstance(entry, dict) and "cmd" in entry for entry in stages.values()):
            raise TypeError("a stage has no command")
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise LockError(
            f"{path}: not a lock file of DVC ({' '.join(str(error).split())}); `git checkout HEAD -- {path}`, then `dvc repro`"
        ) from error
    return Lockfile(path, stages)


def unmerged(text: str) -> str:
    """What to do about a dvc.lock in which a merge left both sides; empty for one without."""
    if not re.search(r"^(<{7}|>{7}) ", text, re.M):
        return ""
    return (
        "a merge left both sides in it, between <<<<<<< and >>>>>>>; take one, by `git checkout --ours dvc.lock` while the merge is open, by "
        "`git checkout COMMIT -- dvc.lock` after it, then run `dvc repro`, which makes what is of the other"
    )


def _overlap(one: str, other: str) -> bool:
    """Whether two paths are the same, or one lies in the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def digest(value: Any) -> str:
    """SHA-256 of plain values, however they were ordered or laid out."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def file_md5(path: Path) -> str:
    """A file's MD5, which is the hash DVC records of it."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
