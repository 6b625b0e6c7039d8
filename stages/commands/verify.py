"""`python -m stages verify`: holds the outputs on disk against dvc.lock, byte by byte.

DVC trusts the timestamps and the modes of its cache: a file that was altered there is checked out in silence, and `dvc status`
calls it up to date. Here every file is hashed again, the way DVC does it. Entries of
stages that dvc.yaml no longer makes (of a cell that was taken out, say) are passed over.
"""

from __future__ import annotations

import hashlib
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from stages.core.process import Fault
from stages.tracking.lockfile import read_lockfile


class VerifyError(Fault, RuntimeError):
    """There is nothing to hold the outputs against."""


def add_parser(commands: Any) -> None:
    """The command takes no arguments."""
    commands.add_parser("verify", help="hash every output again and hold it against dvc.lock").set_defaults(run=run)


def run(args: Namespace) -> int:
    """Print a line for each output that is not what it should be; 1 when there is one."""
    faults = verify(Path("dvc.lock"))
    print("\n".join(faults) or "every output is what dvc.lock says")
    return 1 if faults else 0


def verify(lockfile: Path) -> list[str]:
    """A line for each output that is missing or differs from dvc.lock. Raises `LockError` when there is no lock,
    `VerifyError` when there is no project."""
    from dvc.exceptions import DvcException  # DVC takes a second to import, which no other command should
    from dvc.repo import Repo

    stages = read_lockfile(lockfile).stages
    try:
        with Repo(str(lockfile.parent)) as repo:
            present = {stage.name for stage in repo.index.stages if hasattr(stage, "name")}
    except DvcException as error:
        raise VerifyError(f"{lockfile.parent}: no DVC project whose stages can be read ({error})") from error
    outs = [out for name, stage in stages.items() if name in present for out in stage.get("outs", [])]
    return [fault for out in outs if (fault := _check(out))]


def _check(out: dict[str, Any]) -> str | None:
    path = Path(out["path"])
    if not path.exists():
        return f"{path}: missing; run `dvc checkout` or `dvc repro`"
    found = _directory_md5(path) if path.is_dir() else _md5(path)
    if found != out["md5"]:
        return f"{path}: {out['md5']} expected, {found} found; remove it and run `dvc checkout --force` or `dvc repro`"
    return None


def _md5(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "md5").hexdigest()


def _directory_md5(folder: Path) -> str:
    """DVC's hash of a directory: the MD5 of the JSON list of its files' hashes and relative paths, with `.dir` behind."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    listing = [{"md5": _md5(p), "relpath": p.relative_to(folder).as_posix()} for p in files]
    listing.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"
