"""An archive is unpacked whole or not at all, whatever it holds."""

from __future__ import annotations

import io
import random
import re
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from stages.panelling import archives
from stages.panelling.archives import is_archive, unpack
from stages.panelling.release import ReleaseError

GAMES = re.compile(r"(?:.*/)?(?P<path>train/[^/]+/[^/]+/game\.tw-pddl)")
GAME = "json_2.1.1/train/goal/trial/game.tw-pddl"
CONTENT = bytes(range(256)) * 400


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:]}") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(info, io.BytesIO(content))
    return path


PACKED = pytest.mark.parametrize(
    ("pack", "name"), [(zipped, "data.zip"), (tarred, "data.tar.gz"), (tarred, "data.tar.xz")]
)


def unpacked(archive: Path) -> dict[str, bytes]:
    """What an archive leaves in a fresh folder."""
    out = archive.parent / "out"
    out.mkdir(exist_ok=True)
    try:
        unpack(archive, out, GAMES)
    finally:
        left = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    return left


def refused(archive: Path, reason: str) -> None:
    with pytest.raises(ReleaseError, match=reason):
        unpacked(archive)
    assert list((archive.parent / "out").iterdir()) == []


@PACKED
def test_only_wanted_members_are_extracted_under_their_own_paths(tmp_path: Path, pack: type, name: str) -> None:
    others = ["json_2.1.1/train/goal/trial/traj_data.json", "train/game.tw-pddl", "other/goal/trial/game.tw-pddl"]
    archive = pack(tmp_path / name, {each: each.encode() for each in [GAME, *others]})
    assert is_archive(archive)
    assert unpacked(archive) == {"train/goal/trial/game.tw-pddl": GAME.encode()}


@PACKED
@pytest.mark.parametrize("evil", ["../evil", "train/../../evil", "/evil", "..\\evil", "train/../trial/x/game.tw-pddl"])
def test_an_archive_that_points_out_of_itself_is_refused_whole(
    tmp_path: Path, pack: type, name: str, evil: str
) -> None:
    archive = pack(tmp_path / name, {GAME: b"{}", evil: b"evil"})
    refused(archive, r"points out of the archive.*nothing was extracted")
    assert sorted(p.name for p in tmp_path.rglob("*")) == [name, "out"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_archive_are_refused(tmp_path: Path, kind: bytes) -> None:
    refused(tarred(tmp_path / "data.tar.gz", {GAME: b""}, kind), "is a link, a device")


def test_links_in_a_zip_archive_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo(GAME)
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(tmp_path / "data.zip", "is a link, a device")


@PACKED
def test_an_archive_cut_short_or_altered_is_refused(tmp_path: Path, pack: type, name: str) -> None:
    whole = pack(tmp_path / name, {GAME: random.Random(1).randbytes(100_000)}).read_bytes()
    middle = len(whole) // 2
    for damaged in (
        whole[:middle],
        whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 9]) + whole[middle + 9 :],
    ):
        (tmp_path / name).write_bytes(damaged)
        refused(tmp_path / name, r"no whole archive .*cut short or altered")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "data.zip", {GAME: bytes(archives._MOST_FILE + 1)})
    assert archive.stat().st_size < 50_000
    refused(archive, r"has 20,000,001 bytes .*at most 20,000 files of 20,000,000 bytes")


def test_an_archive_of_too_many_files_or_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path / "data.zip", {GAME.replace("trial", str(n)): b"{}" for n in range(4)})
    monkeypatch.setattr(archives, "_MOST_FILES", 3)
    refused(archive, r"is file 4; at most 3 files")
    monkeypatch.setattr(archives, "_MOST", 7)
    refused(archive, r"holds over 7 bytes")


def test_a_member_that_says_less_than_it_holds_is_damage(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "data.zip", {GAME: CONTENT})
    said = len(CONTENT).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(said, (5).to_bytes(4, "little")))
    refused(archive, "no whole archive")


def test_a_file_that_is_in_twice_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "data.zip", {GAME: b"{}", GAME.replace("2.1.1", "2.1.2"): b"[]"})
    refused(archive, "is in it twice")
