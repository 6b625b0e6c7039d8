"""A journal of finished episodes, so that a killed stage goes on where it was.

It lies outside the stage's outputs, which DVC removes before a stage runs again. Its name holds a hash of all that determines an
episode (panel, model, system, settings), and one of the code: what is changed never meets an old episode.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from filelock import FileLock, Timeout

from stages.core.process import Fault
from stages.core.records import Episode, from_json


class JournalError(Fault, RuntimeError):
    """Another process is playing the same episodes."""


def identity_key(identity: dict[str, Any]) -> str:
    """Hex SHA-256 of what determines the episodes, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


class Journal:
    """`with Journal(folder, identity) as journal:` `journal.finished` maps task ids to episodes; `add` appends one at once.

    Raises `JournalError` when another process holds it. A last line torn by a kill is dropped.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], code: str) -> None:
        """`key`, the hash of `identity` alone, is what episodes are named by: another version of the code gives them no other names."""
        self.key = identity_key(identity)
        self._path = folder / f"{self.key}-{code[:12]}.jsonl"
        self._lock = FileLock(folder / f"{self.key}.lock")
        self.finished: dict[str, Episode] = {}

    def __enter__(self) -> Journal:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise JournalError(
                f"{self._path}: another process is playing these episodes; wait for it, or stop it, and run again"
            ) from None
        whole = self._read()
        self._file: IO[bytes] = self._path.open("ab")
        self._file.truncate(whole)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._lock.release()

    def add(self, episode: Episode) -> None:
        """Append one episode and push it to the disk."""
        self.finished[episode.task_id] = episode
        self._file.write(json.dumps(dataclasses.asdict(episode)).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def discard(self) -> None:
        """Remove the journal, and those of the same episodes that other code left: the stage's output is written."""
        for path in self._path.parent.glob(f"{self.key}-*.jsonl"):
            path.unlink()

    def _read(self) -> int:
        """Take in all whole lines; the length in bytes up to the end of the last of them."""
        if not self._path.exists():
            return 0
        length = 0
        for line in self._path.read_bytes().splitlines(keepends=True):
            try:
                episode = from_json(Episode, json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                break
            if not line.endswith(b"\n"):
                break
            self.finished[episode.task_id] = episode
            length += len(line)
        return length
