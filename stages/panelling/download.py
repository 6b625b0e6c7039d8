"""Archives from elsewhere: fetched once, in as many pieces as it takes, held against a hash, unpacked without surprises."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import stat
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from stages.core.files import atomic
from stages.core.process import Fault

_TRIES = 4  # in a row that bring nothing
_TIMEOUT = 60  # seconds without a byte
_CHUNK = 1 << 20
_CUT = (OSError, http.client.HTTPException)  # what a connection that breaks raises; URLError is an OSError


class DownloadError(Fault, RuntimeError):
    """An archive can't be had or isn't what it should be: says which, what was expected, what was found, what to do."""


def fetch(url: str, path: Path, sha256: str | None = None, pause: float = 1.0) -> str:
    """Have the file of `url` at `path`, and return its SHA-256 in hex.

    What is there is not fetched again; what came before a connection broke is kept in `<path>.part` and gone on from.
    Expected is the hash `sha256`, or else the one that `pin` wrote. `pause` is the wait before another try, in seconds.
    Raises DownloadError when the file can't be had or has another hash.
    """
    if not path.is_file():
        part = path.with_name(f"{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part, path, pause)
        os.replace(part, path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    expected = sha256 or _pinned(path)
    if expected not in (None, found):
        raise DownloadError(
            f"{path}: SHA-256 {expected} expected ({'as set' if sha256 else f'as in {_pin(path).name}'}), {found} found: the "
            "file was altered, here or at its origin. Delete it to fetch it again"
        )
    return found


def pin(path: Path, sha256: str) -> bool:
    """Keep a file's hash beside it, as `sha256sum` writes it, for later fetches to agree with; False if it is kept
    already."""
    if _pinned(path) == sha256:
        return False
    with atomic(_pin(path)) as temporary:
        temporary.write_text(f"{sha256}  {path.name}\n", encoding="utf-8")
    return True


def unpack(archive: Path, out: Path, wanted: re.Pattern[str]) -> None:
    """Extract the members of a zip archive whose whole name matches `wanted`, each held against its checksum.

    Raises DownloadError for an archive that is cut short or damaged, or that holds anything that points out of it.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = zipped.infolist()
            unsafe = [member.filename for member in members if not _safe(member)]
            if unsafe:
                raise DownloadError(
                    f"{archive}: entries point out of the archive or are links ({len(unsafe)}, {unsafe[0]!r} the first); "
                    "nothing was extracted. Delete the file and get the archive from its publisher"
                )
            chosen = [member for member in members if wanted.fullmatch(member.filename)]
            for member in tqdm(chosen, desc=f"extracting {archive.name}", unit="file", disable=None):
                zipped.extract(member, out)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DownloadError(
            f"{archive}: no whole zip archive ({error}): cut short or altered. Delete it to fetch it again"
        ) from error


def _safe(member: zipfile.ZipInfo) -> bool:
    name = PurePosixPath(member.filename)
    plain = not stat.S_ISLNK(member.external_attr >> 16)
    return plain and not name.is_absolute() and ".." not in name.parts and "\\" not in member.filename


def _pin(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _pinned(path: Path) -> str | None:
    try:
        return _pin(path).read_text(encoding="utf-8").split()[0]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, IndexError) as error:
        raise DownloadError(f"{_pin(path)}: no SHA-256 to read ({error}); delete it to pin the file anew") from error


def _download(url: str, part: Path, path: Path, pause: float) -> None:
    """Fill `part` to its end, over as many connections as it takes as long as each brings something."""
    idle, reason = 0, ""
    while idle < _TRIES:
        had = _size(part)
        try:
            if _go_on(url, part):
                return
            reason = "the connection was closed early"
        except urllib.error.HTTPError as error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and had:
                part.unlink()  # it is longer than the file, so it is of another one
                continue
            reason = f"HTTP {error.code} {error.reason}"
            if error.code < http.client.INTERNAL_SERVER_ERROR:
                break  # asking again won't help
        except _CUT as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        idle = 0 if _size(part) > had else idle + 1
        time.sleep(pause * idle)
    raise DownloadError(
        f"{url}: can't be fetched ({reason}); {_megabytes(_size(part))} are in {part}. Run again to go on from there, "
        f"or put the file at {path} yourself"
    )


def _go_on(url: str, part: Path) -> bool:
    """One connection: append what is missing. True when the file is whole, False when the server stopped before."""
    had = _size(part)
    # One byte back, so that there is something to send even when the part is whole.
    headers = {"Range": f"bytes={had - 1}-"} if had else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as answer:
        begin = had - 1 if answer.status == http.client.PARTIAL_CONTENT else 0
        length = answer.headers.get("Content-Length")
        total = begin + int(length) if length else None
        print(f"{url}: {_megabytes(total) if total else 'size unknown'}, {_megabytes(begin)} here already", flush=True)
        with (
            part.open("r+b" if begin else "wb") as file,
            tqdm(total=total, initial=begin, desc=part.stem, unit="B", unit_scale=True, disable=None) as progress,
        ):
            file.seek(begin)
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
    return total is None or _size(part) == total


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
