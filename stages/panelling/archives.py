"""Archives that others packed: read without surprises. Whatever points out of an archive, or is no plain file, refuses it whole."""

from __future__ import annotations

import gzip
import lzma
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from tqdm import tqdm

from stages.panelling.release import ReleaseError, noticing_full, room

_Kind = Literal["file", "folder", "other"]
_MOST = 50 * 10**9  # bytes that all entries may say they have
_MOST_FILE = 20 * 10**6  # bytes of one extracted file
_MOST_FILES = 20_000  # extracted files
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    gzip.BadGzipFile,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
)


@dataclass(frozen=True)
class Member:
    """A plain file in an archive; `size` in bytes, as the archive says."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, also one that was cut short, or a tar archive."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04" or zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


@contextmanager
def opened(archive: Path) -> Iterator[Iterator[Member]]:
    """The plain files of a zip or tar archive, one after the other; each is read before the next.

    Raises `ReleaseError` for an archive that is cut short or damaged, for entries that point out of it, links, devices and encrypted
    files, and for more bytes than official data have.
    """
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                yield _bounded(archive, _of_tar(tar))
        else:
            with zipfile.ZipFile(archive) as zipped:
                yield _bounded(archive, _of_zip(zipped))
    except _DAMAGED as error:
        raise ReleaseError(f"{archive}: no whole archive ({error}): cut short or altered. Get it again") from error


def unpack(archive: Path, out: Path, wanted: re.Pattern[str]) -> int:
    """Extract to the folder `out` the members whose whole name matches `wanted`, each under the name of its group `path`.

    Returns their number. Raises `ReleaseError` as `opened` does, then nothing is left in `out`.
    """
    with (
        noticing_full(out),
        tempfile.TemporaryDirectory(dir=out, prefix=".unpacking.") as folder,
        opened(archive) as members,
    ):
        number = 0
        for member in tqdm(members, desc=f"reading {archive.name}", unit="file", disable=None):
            if match := wanted.fullmatch(member.name):
                number += 1
                _extract(archive, member, Path(folder) / match["path"], number)
        for path in Path(folder).iterdir():
            path.rename(out / path.name)
    return number


def _extract(archive: Path, member: Member, path: Path, number: int) -> None:
    if member.size > _MOST_FILE or number > _MOST_FILES:
        raise ReleaseError(
            f"{archive}: {member.name} has {member.size:,} bytes and is file {number:,}; at most {_MOST_FILES:,} files of "
            f"{_MOST_FILE:,} bytes are taken. Nothing was extracted; get the archive from its publisher"
        )
    if path.exists():
        raise ReleaseError(
            f"{archive}: {member.name} is in it twice; nothing was extracted. Pack it anew, each file once"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    room(path.parent, member.size, member.name)
    with member.open() as stream:
        path.write_bytes(stream.read(_MOST_FILE))


def _bounded(archive: Path, entries: Iterator[tuple[Member, _Kind]]) -> Iterator[Member]:
    """The plain files, as long as all entries so far are safe and not too large."""
    total = 0
    for member, kind in entries:
        name = PurePosixPath(member.name)
        if kind == "other" or name.is_absolute() or ".." in name.parts or "\\" in member.name:
            raise ReleaseError(
                f"{archive}: {member.name!r} points out of the archive, or is a link, a device or encrypted; nothing was extracted. "
                "Get the archive from its publisher"
            )
        total += member.size
        if total > _MOST:
            raise ReleaseError(
                f"{archive}: it says it holds over {_MOST:,} bytes, as no official data do; nothing was extracted. Get the archive from "
                "its publisher"
            )
        if kind == "file":
            yield member


def _of_zip(zipped: zipfile.ZipFile) -> Iterator[tuple[Member, _Kind]]:
    for info in zipped.infolist():
        mode = stat.S_IFMT(info.external_attr >> 16)
        plain = mode in (0, stat.S_IFREG, stat.S_IFDIR) and not info.flag_bits & 1
        kind: _Kind = "other" if not plain else "folder" if info.is_dir() else "file"
        yield Member(info.filename, info.file_size, partial(zipped.open, info)), kind


def _of_tar(tar: tarfile.TarFile) -> Iterator[tuple[Member, _Kind]]:
    for info in tar:
        kind: _Kind = "file" if info.isreg() else "folder" if info.isdir() else "other"
        yield Member(info.name, info.size, partial(_open, tar, info)), kind
    while tar.fileobj and tar.fileobj.read(1 << 20):
        pass  # a compressed stream holds its checksum against the content at its very end


def _open(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(info)
    assert stream is not None, "a plain file has content"
    return stream
