"""Files from elsewhere, fetched in as many pieces as it takes, and held against their hash before they get their name."""

from __future__ import annotations

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

from tqdm import tqdm

from stages.panelling.release import Piece, ReleaseError, check, differs, noticing_full, room

_TRIES = 4  # in a row that bring nothing
_TIMEOUT = 60  # seconds without a byte
_CHUNK = 1 << 20
_AGAIN = (http.client.REQUEST_TIMEOUT, http.client.TOO_MANY_REQUESTS)  # of the client's errors, those that pass
_CUT = (OSError, http.client.HTTPException)  # what a connection that breaks raises; URLError is an OSError


class _Refused(Exception):
    """The server has something else, so that asking again will not help."""


def fetch(piece: Piece, folder: Path, pause: float = 1.0) -> Path:
    """Have a piece in `folder`. A file that is there is held against the piece's hash, and not fetched again.

    What came before a connection broke is kept in `<name>.part` and gone on from (RFC 9110, 14.2), as long as the server says by its
    validator, kept in `<name>.part.of`, that the file is still the same. `pause` is the wait before another try, in seconds. Raises
    `ReleaseError` when the file cannot be had or has another hash; then no file has its name.
    """
    path, part = folder / piece.name, folder / f"{piece.name}.part"
    if path.is_file():
        check(path, piece)
        return path
    folder.mkdir(parents=True, exist_ok=True)
    if _size(part) > piece.size:
        part.unlink()
    room(folder, piece.size - _size(part), piece.name)
    _download(piece, part, pause)
    if wrong := differs(part, piece):
        part.unlink()
        raise ReleaseError(
            f"{piece.url}: {wrong}; nothing was kept. Download {piece.name} by hand from {piece.page} and name it to "
            "`python -m stages fetch` with --from"
        )
    os.replace(part, path)
    _mark(part).unlink(missing_ok=True)
    return path


def _download(piece: Piece, part: Path, pause: float) -> None:
    """Fill `part` to its end, over as many connections as it takes as long as each brings something."""
    idle, reason = 0, ""
    while (had := _size(part)) < piece.size and idle < _TRIES:
        try:
            reason = "the connection was closed early"
            _go_on(piece, part, had)
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and had:
                part.unlink()  # it is of another, longer file
            elif error.code < http.client.INTERNAL_SERVER_ERROR and error.code not in _AGAIN:
                break
        except _Refused as error:
            reason = str(error)
            break
        except _CUT as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        idle = 0 if _size(part) > had else idle + 1
        time.sleep(pause * idle)
    if _size(part) != piece.size:
        raise ReleaseError(
            f"{piece.url}: {piece.name} can't be fetched ({reason}); {_size(part):,} of {piece.size:,} bytes are here. Run again to go "
            f"on from there, or download it by hand from {piece.page} and name it to `python -m stages fetch` with --from"
        )


def _go_on(piece: Piece, part: Path, had: int) -> None:
    """One connection: append what is missing, or write all of it anew where the server's file is no longer the same."""
    known = _mark(part).read_text(encoding="utf-8") if had and _mark(part).is_file() else ""
    headers = ({"Range": f"bytes={had}-"} if had else {}) | ({"If-Range": known} if known else {})
    with urllib.request.urlopen(urllib.request.Request(piece.url, headers=headers), timeout=_TIMEOUT) as answer:
        validator = _validator(answer.headers)
        begin, total = _extent(answer, piece)
        if begin and (begin != had or validator != known):
            part.unlink()
            raise ConnectionError("the server's file changed meanwhile, and is fetched anew")
        if total not in (None, piece.size):
            raise _Refused(f"{piece.size:,} bytes expected, the server has {total:,}: another file")
        print(f"{piece.name}: {piece.size / 1e6:,.1f} MB, {begin / 1e6:,.1f} MB here already", flush=True)
        if not begin:
            _mark(part).write_text(validator, encoding="utf-8")
        with (
            noticing_full(part, "what came is kept"),
            part.open("ab" if begin else "wb") as file,
            tqdm(total=piece.size, initial=begin, desc=piece.name, unit="B", unit_scale=True, disable=None) as progress,
        ):
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
                if file.tell() > piece.size:
                    raise _Refused(f"{piece.size:,} bytes expected, and more came: another file")


def _extent(answer: http.client.HTTPResponse, piece: Piece) -> tuple[int, int | None]:
    """Where the bytes of an answer begin in the file, and the file's size if the server says it. Raises `_Refused` for a page of HTML."""
    if answer.headers.get_content_type() == "text/html":
        raise _Refused("a page of HTML came in the file's place, as Google Drive sends one when too many fetched it")
    length = answer.headers.get("Content-Length")
    if answer.status != http.client.PARTIAL_CONTENT:
        return 0, int(length) if length else None
    said = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if said is None:
        raise _Refused("a part came, and it does not say which")
    return int(said[1]), int(said[2]) if said[2] != "*" else None


def _validator(headers: Message) -> str:
    """What tells a server's file from a changed one: its strong entity tag, else its date (RFC 9110, 8.8); nothing without either."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _mark(part: Path) -> Path:
    return part.with_name(f"{part.name}.of")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
