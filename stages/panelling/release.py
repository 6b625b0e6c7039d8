"""What a benchmark gives out: its files with their sizes and hashes, and whether a file is what its name says."""

from __future__ import annotations

import errno
import hashlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from stages.core.files import atomic
from stages.core.process import Fault

_CHUNK = 1 << 20


class ReleaseError(Fault, RuntimeError):
    """A file cannot be had, or is not what it should be: says which, what was expected, what was found, what to do."""


@dataclass(frozen=True)
class Piece:
    """A file as its publisher gives it out: `size` in bytes, `sha256` in hex, `url` for a program, `page` for a person's browser."""

    name: str
    size: int
    sha256: str
    url: str
    page: str


class Release(ABC):
    """The official data of one environment, and where the settings expect them."""

    title: str
    origin: str
    licence: str
    pieces: tuple[Piece, ...]
    place: Path
    """The folder or the archive in which the settings expect the data."""

    @abstractmethod
    def lacking(self) -> list[str]:
        """A line for everything that is missing or visibly broken, found out without reading whole files."""

    @abstractmethod
    def download(self) -> list[str]:
        """Get what is missing from where it is published; a line for each thing that is there now. Raises `ReleaseError`."""

    @abstractmethod
    def take(self, sources: Sequence[Path]) -> list[str]:
        """The same from folders, archives or files that lie here already; they stay as they are. Raises `ReleaseError`."""


def look(path: Path, piece: Piece, release: Iterable[Piece]) -> str:
    """What is wrong with a file by its size and first bytes, or nothing. `release` are the files it may be mistaken for."""
    size = path.stat().st_size
    if size == piece.size:
        return ""
    if is_page(path):
        return f"a page of HTML under the name of {piece.name}, as a browser or Google Drive saves it in a file's place"
    other = next((other.name for other in release if other.size == size), None)
    if other:
        return f"by its size this is {other}, not {piece.name}"
    counted = f"{piece.size:,} bytes expected, {size:,} found"
    return f"{counted}: half a download" if size < piece.size else f"{counted}: not the file of the release"


def is_page(path: Path) -> bool:
    """Whether a file begins as HTML does."""
    with path.open("rb") as file:
        return file.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html", b"<head"))


def differs(path: Path, piece: Piece, release: Iterable[Piece] = ()) -> str:
    """What is wrong with a file, read to its end, or nothing."""
    wrong = look(path, piece, release)
    if wrong:
        return wrong
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return "" if found == piece.sha256 else _altered(piece, found)


def check(path: Path, piece: Piece, release: Iterable[Piece] = ()) -> None:
    """Raise `ReleaseError` when a file is not this piece, byte by byte."""
    if wrong := differs(path, piece, release):
        raise ReleaseError(f"{path}: {wrong}. Delete it or move it away, then fetch it again")


def room(folder: Path, needed: int, what: str) -> None:
    """Raise `ReleaseError` when a disk has fewer than `needed` bytes left for `what`."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ReleaseError(
            f"{folder}: {what} needs {needed:,} bytes, {free:,} are free; make room, or choose another disk"
        )


@contextmanager
def noticing_full(path: Path, left: str = "nothing was left of it") -> Iterator[None]:
    """What the system raises on a full disk as a `ReleaseError` of one line; `left` says what became of `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ReleaseError(f"{path}: the disk is full; {left}. Make room and fetch again") from error


def put(stream: IO[bytes], piece: Piece, path: Path, source: str) -> None:
    """Write a piece to `path`, which is replaced only when all of it came. Raises `ReleaseError` for other bytes than the piece's."""
    digest, left = hashlib.sha256(), piece.size
    with noticing_full(path), atomic(path) as temporary, temporary.open("wb") as file:
        room(path.parent, piece.size, piece.name)
        while left and (chunk := stream.read(min(_CHUNK, left))):
            file.write(chunk)
            digest.update(chunk)
            left -= len(chunk)
        if digest.hexdigest() != piece.sha256:
            wrong = _altered(piece, digest.hexdigest())
            raise ReleaseError(f"{source}: {wrong}. Get it again; nothing was put in its place")


def _altered(piece: Piece, found: str) -> str:
    return f"SHA-256 {piece.sha256} expected of {piece.name}, {found} found: another file, or an altered one"
