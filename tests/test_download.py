"""A file comes whole or not at all: over a real server that cuts connections, changes its file, or sends something else."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import replace
from io import BufferedWriter
from pathlib import Path
from typing import Any

import pytest
from origin import Origin

from stages.panelling import download
from stages.panelling.download import fetch
from stages.panelling.release import Piece, ReleaseError

pytest_plugins = ["origin"]

CONTENT = bytes(range(256)) * 4000
OTHER = CONTENT[::-1]


@pytest.fixture
def piece(origin: Origin) -> Piece:
    return origin.publish("data.zip", CONTENT)


def cut_off(origin: Origin, piece: Piece, folder: Path, after: int) -> Path:
    """A download that broke off for good after so many bytes."""
    origin.cuts = [after, *[0] * 8]
    with pytest.raises(ReleaseError, match="the connection was closed early"):
        fetch(piece, folder, pause=0)
    origin.cuts, origin.asked = [], []
    return folder / "data.zip.part"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once_and_its_size_shown(
    origin: Origin, piece: Piece, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "downloads"
    assert fetch(piece, folder) == fetch(piece, folder) == folder / "data.zip"
    assert (folder / "data.zip").read_bytes() == CONTENT
    assert (origin.asked, names(folder)) == ([None], ["data.zip"])
    assert capsys.readouterr().out == "data.zip: 1.0 MB, 0.0 MB here already\n"


def test_a_cut_connection_is_gone_on_from_where_it_broke(origin: Origin, piece: Piece, tmp_path: Path) -> None:
    origin.cuts = [1000, 5000, 0, 300_000]
    fetch(piece, tmp_path, pause=0)
    assert origin.asked == [None, "bytes=1000-", "bytes=6000-", "bytes=6000-", "bytes=306000-"]


def test_what_came_is_kept_for_the_next_run(origin: Origin, piece: Piece, tmp_path: Path) -> None:
    origin.cuts = [400_000, *[0] * 8]
    with pytest.raises(ReleaseError) as error:
        fetch(piece, tmp_path, pause=0)
    assert "data.zip can't be fetched (the connection was closed early); 400,000 of 1,024,000 bytes are here" in str(
        error.value
    )
    assert f"Run again to go on from there, or download it by hand from {piece.page}" in str(error.value)
    assert (tmp_path / "data.zip.part").read_bytes() == CONTENT[:400_000]
    assert not (tmp_path / "data.zip").exists()
    origin.cuts = []
    fetch(piece, tmp_path)
    assert origin.asked[-1] == "bytes=400000-"
    assert names(tmp_path) == ["data.zip"]


def test_a_whole_part_only_takes_its_name(origin: Origin, piece: Piece, tmp_path: Path) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT)
    assert fetch(piece, tmp_path).read_bytes() == CONTENT
    assert origin.asked == []


def test_a_part_of_a_longer_file_is_begun_anew(origin: Origin, piece: Piece, tmp_path: Path) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT + CONTENT)
    assert fetch(piece, tmp_path, pause=0).read_bytes() == CONTENT
    assert origin.asked == [None]


@pytest.mark.parametrize("heeds", [True, False], ids=["If-Range heeded", "If-Range passed over"])
def test_a_file_that_changed_meanwhile_is_fetched_anew(origin: Origin, tmp_path: Path, heeds: bool) -> None:
    cut_off(origin, origin.publish("data.zip", OTHER), tmp_path, 1000)
    piece, origin.heeds = origin.publish("data.zip", CONTENT), heeds
    assert fetch(piece, tmp_path, pause=0).read_bytes() == CONTENT
    assert origin.asked == (["bytes=1000-"] if heeds else ["bytes=1000-", None])


def test_without_a_validator_the_hash_tells_that_the_file_changed(origin: Origin, tmp_path: Path) -> None:
    origin.tags = False
    part = cut_off(origin, origin.publish("data.zip", OTHER), tmp_path, 1000)
    piece = origin.publish("data.zip", CONTENT)
    with pytest.raises(ReleaseError, match=r"SHA-256 .* expected of data\.zip, .* found.*; nothing was kept"):
        fetch(piece, tmp_path, pause=0)
    assert origin.asked == ["bytes=1000-"] and not part.exists()
    assert fetch(piece, tmp_path).read_bytes() == CONTENT


def test_a_range_that_a_shorter_file_lacks_is_no_dead_end(origin: Origin, piece: Piece, tmp_path: Path) -> None:
    cut_off(origin, piece, tmp_path, 5000)
    origin.files["data.zip"], origin.heeds = CONTENT[:100], False
    with pytest.raises(ReleaseError, match=r"1,024,000 bytes expected, the server has 100: another file\); 0 of"):
        fetch(piece, tmp_path, pause=0)
    assert origin.asked == ["bytes=5000-", None]


def test_a_server_without_ranges_sends_everything_again(origin: Origin, piece: Piece, tmp_path: Path) -> None:
    origin.ranges, origin.cuts = False, [1000]
    assert fetch(piece, tmp_path, pause=0).read_bytes() == CONTENT
    assert origin.asked == [None, "bytes=1000-"]


def test_a_server_that_does_not_say_the_length_cannot_send_more_than_the_file_has(
    origin: Origin, piece: Piece, tmp_path: Path
) -> None:
    origin.lengths = False
    assert fetch(piece, tmp_path).read_bytes() == CONTENT
    (tmp_path / "data.zip").unlink()
    origin.files["data.zip"] = CONTENT * 5
    with pytest.raises(ReleaseError, match=r"1,024,000 bytes expected, and more came: another file"):
        fetch(piece, tmp_path, pause=0)
    assert not (tmp_path / "data.zip").exists()


def test_a_page_in_the_files_place_is_not_kept(origin: Origin, piece: Piece, tmp_path: Path) -> None:
    part = cut_off(origin, piece, tmp_path, 1000)
    origin.files["data.zip"], origin.kind, origin.heeds = (
        b"<html>Too many users</html>",
        "text/html; charset=utf-8",
        False,
    )
    origin.ranges = False
    with pytest.raises(ReleaseError, match=r"a page of HTML came in the file's place.*by hand from .*data\.zip\.html"):
        fetch(piece, tmp_path, pause=0)
    assert part.read_bytes() == CONTENT[:1000] and len(origin.asked) == 1


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (429, 4), (503, 4)])
def test_an_answer_that_is_an_error_is_quoted(
    origin: Origin, piece: Piece, tmp_path: Path, status: int, tries: int
) -> None:
    origin.status = status
    with pytest.raises(ReleaseError, match=rf"{piece.url}: data.zip can't be fetched \(HTTP {status} .*by hand"):
        fetch(piece, tmp_path, pause=0)
    assert len(origin.asked) == tries


def test_no_server_at_all_is_one_error(tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/data.zip"
    with pytest.raises(ReleaseError, match=r"can't be fetched \(.*refused"):
        fetch(Piece("data.zip", 5, "0" * 64, url, url), tmp_path, pause=0)


def test_another_hash_than_the_published_one_is_refused_and_not_kept(
    origin: Origin, piece: Piece, tmp_path: Path
) -> None:
    found = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(ReleaseError, match=rf"SHA-256 {'0' * 64} expected of data\.zip, {found} found"):
        fetch(replace(piece, sha256="0" * 64), tmp_path)
    assert not [name for name in names(tmp_path) if not name.endswith(".of")]


def test_a_file_that_is_there_and_another_is_named_and_left(origin: Origin, piece: Piece, tmp_path: Path) -> None:
    for content, reason in (
        (CONTENT[:7], "half a download"),
        (OTHER, "SHA-256"),
        (b" <!DOCTYPE html>", "a page of HTML"),
    ):
        (tmp_path / "data.zip").write_bytes(content)
        with pytest.raises(ReleaseError, match=rf"data\.zip: .*{reason}.*Delete it or move it away"):
            fetch(piece, tmp_path)
        assert (tmp_path / "data.zip").read_bytes() == content
    assert origin.asked == []


def test_a_disk_without_room_is_noticed_before_anything_is_asked(
    origin: Origin, piece: Piece, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ReleaseError, match=r"data\.zip needs 1,000,000,000,000,000 bytes, [\d,]+ are free; make room"):
        fetch(replace(piece, size=10**15), tmp_path)
    assert origin.asked == []


class _FullDisk(BufferedWriter):
    def write(self, _: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_fills_up_keeps_what_came(
    origin: Origin, piece: Piece, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = cut_off(origin, piece, tmp_path, 1000)
    real = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, mode="r", **k: (
            _FullDisk(real(path, mode, buffering=0)) if path == part and mode == "ab" else real(path, mode, **k)
        ),
    )
    with pytest.raises(ReleaseError, match=r"data\.zip\.part: the disk is full; what came is kept\. Make room"):
        download.fetch(piece, tmp_path, pause=0)
    assert len(origin.asked) == 1 and part.stat().st_size == 1000
    monkeypatch.undo()
    assert fetch(piece, tmp_path).read_bytes() == CONTENT
