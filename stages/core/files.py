"""Files: nothing half-written is left behind, as files and folders are made under another name and replace the old ones in one move; and where
lies what outlasts a run."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType


def real_root(folder: Path) -> Path:
    """The project's root, also seen from the temporary copy in which DVC runs an experiment."""
    return Path(str(folder.resolve()).split("/.dvc/tmp/exps/")[0])


def settled(path: str) -> Path:
    """A path of the settings, counted from the project's root also where DVC runs an experiment in a temporary copy."""
    root, wanted = real_root(Path()), Path(path).expanduser()
    return wanted if root == Path().resolve() else root / wanted


CODE = Path(__file__).parents[1]
CACHE = settled(".cache")
"""What can be made or fetched anew, kept between runs and outside every stage's outputs; one for all experiments of a project."""


def code_sha256(folders: Iterable[str]) -> str:
    """Digest of the code in these folders of stages/, so that what other code made is not taken for its own."""
    digest = hashlib.sha256()
    for path in sorted(p for f in folders for p in (CODE / f).rglob("*") if p.suffix in (".py", ".json", ".cpp", ".h")):
        digest.update(path.relative_to(CODE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


class atomic:
    """`with atomic(path) as temporary:` write to `temporary`; on success it replaces `path`, on failure it is removed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        os.close(handle)
        self.temporary = Path(name)
        return self.temporary

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            os.chmod(self.temporary, 0o644)
            os.replace(self.temporary, self.path)
        else:
            self.temporary.unlink(missing_ok=True)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its place at the end; on an error `folder` stays as it was."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        fresh, old = scratch / "fresh", scratch / "old"
        fresh.mkdir()
        yield fresh
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(fresh, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
