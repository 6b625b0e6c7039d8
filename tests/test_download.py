"""An archive comes whole or not at all: over a real server that cuts connections, and from archives that were altered."""

from __future__ import annotations

import hashlib
import re
import stat
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from official_games import goals, write_official

from stages.envs.panel import PanelError, load_panel
from stages.panelling.alfworld import official_panels
from stages.panelling.alfworld.settings import AlfworldPanels, OfficialAlfworld
from stages.panelling.download import DownloadError, fetch, pin, unpack

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GAMES = re.compile(r"(json_2\.1\.\d+/)?train/[^/]+/[^/]+/game\.tw-pddl")


class Origin(ThreadingHTTPServer):
    """Serves `content` on loopback. `cuts` are the numbers of bytes after which coming connections break; `asked` are the
    Range headers that came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.ranges, self.status = CONTENT, True, 200
        self.cuts: list[int] = []
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/data.zip"


class _Handler(BaseHTTPRequestHandler):
    server: Origin

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        content, begin = self.server.content, 0
        if wanted and self.server.ranges:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if self.server.status != 200 or begin >= len(content):
            self.send_error(416 if self.server.status == 200 else self.server.status)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        end = begin + self.server.cuts.pop(0) if self.server.cuts else len(content)
        self.wfile.write(content[begin:end])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Origin() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


# Fetching


def test_a_file_is_fetched_once_and_its_size_shown(
    origin: Origin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "downloads" / "data.zip"
    assert fetch(origin.url, path) == fetch(origin.url, path) == SHA256
    assert path.read_bytes() == CONTENT
    assert origin.asked == [None]
    assert [p.name for p in path.parent.iterdir()] == ["data.zip"]
    assert capsys.readouterr().out == f"{origin.url}: 1.0 MB, 0.0 MB here already\n"


def test_a_cut_connection_is_gone_on_from_where_it_broke(origin: Origin, tmp_path: Path) -> None:
    origin.cuts = [1000, 5000, 0, 300_000]
    assert fetch(origin.url, tmp_path / "data.zip", pause=0) == SHA256
    assert origin.asked == [None, "bytes=999-", "bytes=5998-", "bytes=5998-", "bytes=305997-"]


def test_what_came_is_kept_for_the_next_run(origin: Origin, tmp_path: Path) -> None:
    origin.cuts = [400_000, *[1] * 8]
    path, part = tmp_path / "data.zip", tmp_path / "data.zip.part"
    with pytest.raises(DownloadError) as error:
        fetch(origin.url, path, pause=0)
    assert "can't be fetched (the connection was closed early); 0.4 MB are in" in str(error.value)
    assert f"Run again to go on from there, or put the file at {path} yourself" in str(error.value)
    assert part.read_bytes() == CONTENT[:400_000] and not path.exists()
    origin.cuts = []
    assert fetch(origin.url, path) == SHA256
    assert origin.asked[-1] == "bytes=399999-"
    assert not part.exists()


def test_a_whole_part_only_takes_its_name(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT)
    assert fetch(origin.url, tmp_path / "data.zip") == SHA256


def test_a_part_of_a_longer_file_is_begun_anew(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "data.zip.part").write_bytes(CONTENT + CONTENT)
    assert fetch(origin.url, tmp_path / "data.zip", pause=0) == SHA256
    assert origin.asked[-1] is None


def test_a_server_without_ranges_sends_everything_again(origin: Origin, tmp_path: Path) -> None:
    origin.ranges, origin.cuts = False, [1000]
    assert fetch(origin.url, tmp_path / "data.zip", pause=0) == SHA256
    assert origin.asked == [None, "bytes=999-"]


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (503, 4)])
def test_an_answer_that_is_an_error_is_quoted(origin: Origin, tmp_path: Path, status: int, tries: int) -> None:
    origin.status = status
    with pytest.raises(DownloadError, match=rf"{origin.url}: can't be fetched \(HTTP {status} .*put the file at"):
        fetch(origin.url, tmp_path / "data.zip", pause=0)
    assert len(origin.asked) == tries


def test_no_server_at_all_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"can't be fetched \(.*refused"):
        fetch("http://127.0.0.1:9/data.zip", tmp_path / "data.zip", pause=0)


# Hashes


def test_another_hash_than_the_one_set_is_refused(origin: Origin, tmp_path: Path) -> None:
    expected = "0" * 64
    with pytest.raises(DownloadError, match=rf"SHA-256 {expected} expected \(as set\), {SHA256} found.*Delete it"):
        fetch(origin.url, tmp_path / "data.zip", expected)
    assert fetch(origin.url, tmp_path / "data.zip", SHA256) == SHA256


def test_a_pinned_hash_holds_for_later_fetches(origin: Origin, tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    assert pin(path, fetch(origin.url, path))
    assert not pin(path, fetch(origin.url, path))
    assert (tmp_path / "data.zip.sha256").read_text() == f"{SHA256}  data.zip\n"
    path.unlink()
    origin.content = CONTENT[:-1] + b"!"
    with pytest.raises(DownloadError, match=rf"SHA-256 {SHA256} expected \(as in data.zip.sha256\).*altered"):
        fetch(origin.url, path)


def test_an_unreadable_pin_is_named(origin: Origin, tmp_path: Path) -> None:
    (tmp_path / "data.zip.sha256").write_text("")
    with pytest.raises(DownloadError, match=r"data\.zip\.sha256: no SHA-256 to read"):
        fetch(origin.url, tmp_path / "data.zip")


# Unpacking


def test_only_wanted_members_are_extracted(tmp_path: Path) -> None:
    game = "json_2.1.1/train/goal/trial/game.tw-pddl"
    others = ["json_2.1.1/train/goal/trial/traj_data.json", "train/game.tw-pddl", "other/goal/trial/game.tw-pddl"]
    archive = zipped(tmp_path / "data.zip", {name: name.encode() for name in [game, *others]})
    unpack(archive, tmp_path / "out", GAMES)
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert [p.relative_to(tmp_path / "out").as_posix() for p in files] == [game]
    assert files[0].read_bytes() == game.encode()


@pytest.mark.parametrize("name", ["../evil", "train/../../evil", "/evil", "..\\evil", "train/../trial/x/game.tw-pddl"])
def test_an_archive_that_points_out_of_itself_is_refused_whole(tmp_path: Path, name: str) -> None:
    archive = zipped(tmp_path / "data.zip", {"train/a/b/game.tw-pddl": b"{}", name: b"evil"})
    with pytest.raises(DownloadError, match=r"entries point out of the archive.*nothing was extracted"):
        unpack(archive, tmp_path / "out", GAMES)
    assert [p.name for p in tmp_path.rglob("*")] == ["data.zip"]


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("train/a/b/game.tw-pddl")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DownloadError, match="or are links"):
        unpack(tmp_path / "data.zip", tmp_path / "out", GAMES)


def test_an_archive_cut_short_or_altered_is_refused(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "data.zip", {"train/a/b/game.tw-pddl": CONTENT}).read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:middle], b"<html>", whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        (tmp_path / "data.zip").write_bytes(damaged)
        with pytest.raises(DownloadError, match=r"data\.zip: no whole zip archive .*Delete it to fetch it again"):
            unpack(tmp_path / "data.zip", tmp_path / "out", GAMES)


# From an address to panels


def release(tmp_path: Path) -> bytes:
    """An archive as alfworld publishes it, with one goal a split."""
    chosen = dict(zip(("train", "valid_seen", "valid_unseen"), goals("put", 4), strict=False))
    splits = {split: {goal: 1} for split, goal in chosen.items()}
    splits["train"] |= {goals("put", 4)[3]: 1}
    root = write_official(tmp_path / "release" / "json_2.1.1", splits)
    members = {p.relative_to(root.parent).as_posix(): p.read_bytes() for p in root.rglob("*.tw-pddl")}
    return zipped(tmp_path / "release.zip", members).read_bytes()


def build(tmp_path: Path, sha256: str | None = None) -> None:
    values = {
        "data_dir": None,
        "train": 1,
        "dev": 1,
        "warmup": 0,
        "shared_goals": "drop",
        "counts": None,
        "sha256": sha256,
    }
    official = OfficialAlfworld.model_validate(values)
    panels = AlfworldPanels(source="official", seed=1, sizes={}, official=official)
    official_panels.build_panels(panels, tmp_path / "out", tmp_path / "cache", tmp_path / "downloads")


def test_panels_are_built_from_the_release_archive(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(official_panels, "ARCHIVE", origin.url)
    monkeypatch.setattr(official_panels, "start_games", lambda *_: None)
    origin.content = release(tmp_path)
    sha256 = hashlib.sha256(origin.content).hexdigest()
    build(tmp_path)
    said = capsys.readouterr().out
    assert f"data.zip: SHA-256 {sha256}, kept beside it" in said
    assert "write it into params.yaml (panels.alfworld.official.sha256)" in said
    assert len(load_panel(tmp_path / "out", "test")[0]) == 1
    assert f'"data.zip": "{sha256}"' in (tmp_path / "out" / "panels.json").read_text()
    assert sorted(p.name for p in (tmp_path / "downloads").iterdir()) == ["data.zip", "data.zip.sha256"]
    build(tmp_path, sha256)
    assert (capsys.readouterr().out, len(origin.asked)) == ("", 1)


def test_a_damaged_archive_is_neither_pinned_nor_built_from(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(official_panels, "ARCHIVE", origin.url)
    origin.content = release(tmp_path)[:5000]
    with pytest.raises(PanelError, match=r"no whole zip archive.*panels\.alfworld\.official\.data_dir"):
        build(tmp_path)
    assert [p.name for p in (tmp_path / "downloads").iterdir()] == ["data.zip"]
    assert not (tmp_path / "out").exists()
