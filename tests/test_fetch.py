"""`python -m stages fetch`: official data described, downloaded from a real server, and taken from what lies here already."""

from __future__ import annotations

import errno
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from fetching import pack, setting
from origin import Origin
from test_archives import zipped

from stages.commands.fetch import release_of
from stages.core.params import load
from stages.panelling.webshop import release as shop_release

pytest_plugins = ["origin", "fetching"]

SMALL = ("items_shuffle_1000.json", "items_ins_v2_1000.json", "items_human_ins.json")


@pytest.fixture
def shop(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files under WebShop's names, published at the origin with their sizes and hashes."""
    contents = {
        name: json.dumps([{"asin": name}] if "shuffle" in name else {name: {}}).encode() + b" " * n + b"\n"
        for n, name in enumerate(piece.name for piece in shop_release.PIECES)
    }
    monkeypatch.setattr(shop_release, "PIECES", tuple(origin.publish(name, data) for name, data in contents.items()))
    return contents


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


# What is needed


def test_without_more_it_says_what_is_needed_and_what_is_missing(fetch: Any) -> None:
    code, said = fetch("webshop")
    assert code == 0 and not Path("webshop_data").exists()
    for name in SMALL:
        [piece] = [piece for piece in shop_release.PIECES if piece.name == name]
        assert f"{name}: {piece.size:,} bytes, SHA-256 {piece.sha256}\n    https://drive.google.com/uc?id=" in said
    assert "MIT" in said and "9.8 MB" in said and f"lacking: webshop_data lacks {', '.join(SMALL)}" in said
    assert "python -m stages fetch webshop --download" in said and "items_shuffle.json" not in said


def test_a_profile_says_which_files_and_where(fetch: Any) -> None:
    code, said = fetch("webshop", "--profile", "paper_7b")
    assert code == 0 and "items_shuffle.json: 5,479,720,229 bytes" in said and "5,671.2 MB" in said
    assert "python -m stages fetch webshop --profile paper_7b --from PATH" in said
    code, said = fetch("alfworld", "--profile", "paper_7b")
    assert (
        code == 0
        and "lacking: .cache/downloads/json_2.1.2_tw-pddl.zip: missing" in said
        and "releases/download/0.4.0/" in said
    )


def test_every_file_that_the_reader_asks_for_is_published() -> None:
    assert {piece.name for piece in shop_release.PIECES} == {n for names in shop_release.FILES.values() for n in names}
    assert len({piece.size for piece in shop_release.PIECES}) == len({piece.url for piece in shop_release.PIECES}) == 5


def test_data_in_the_project_are_found_from_an_experiments_temporary_copy(
    elsewhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting("webshop", data_dir="shop")
    assert release_of("webshop", load()).place == Path("shop")
    copy = tmp_path / ".dvc/tmp/exps/tmp123"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert release_of("webshop", load(tmp_path / "params.yaml")).place == tmp_path / "shop"


# WebShop


def test_the_shops_files_are_downloaded_and_a_broken_one_goes_on(
    fetch: Any, shop: dict[str, bytes], origin: Origin
) -> None:
    setting("webshop", data_dir="here")
    origin.cuts = [10, *[0] * 9]
    code, said = fetch("webshop", "--download")
    assert code == 1 and "can't be fetched (the connection was closed early); 10 of" in said
    assert sorted(written(Path("here"))) == ["items_shuffle_1000.json.part", "items_shuffle_1000.json.part.of"]
    origin.cuts, origin.asked = [], []
    code, said = fetch("webshop", "--download")
    assert (code, written(Path("here"))) == (0, {name: shop[name] for name in SMALL})
    assert origin.asked == ["bytes=10-", None, None] and "still lacking" not in said
    code, said = fetch("webshop")
    assert code == 0 and "It is here" in said
    assert fetch("webshop", "--from", "here")[0] == 0
    assert len(origin.asked) == 3


def test_google_drives_page_in_place_of_a_file_says_what_to_do_by_hand(
    fetch: Any, shop: dict[str, bytes], origin: Origin
) -> None:
    origin.kind = "text/html"
    code, said = fetch("webshop", "--download")
    assert code == 1 and "a page of HTML came in the file's place, as Google Drive sends one" in said
    assert (
        f"by hand from {origin.url('items_shuffle_1000.json')}.html and name it to `python -m stages fetch` with --from"
        in said
    )
    assert written(Path("webshop_data")) == {} and said.count("\n") == 1


@pytest.mark.parametrize("form", ["folder", "checkout", "zip", "tar", "files"])
def test_the_shops_files_are_taken_from_what_lies_here(
    fetch: Any, shop: dict[str, bytes], tmp_path: Path, form: str
) -> None:
    mine = tmp_path / "mine" / ("data" if form == "checkout" else "")
    mine.mkdir(parents=True)
    for name in SMALL:
        (mine / name).write_bytes(shop[name])
    (mine / "other.json").write_text("{}")
    source = [tmp_path / "mine"]
    if form == "zip":
        source = [pack(mine, tmp_path / "data.zip")]
    if form == "tar":
        with tarfile.open(tmp_path / "data.tar.gz", "w:gz") as tar:
            tar.add(mine, "raw/data")
        source = [tmp_path / "data.tar.gz"]
    if form == "files":
        source = [mine / name for name in SMALL]
    code, said = fetch("webshop", "--from", *source)
    assert (code, written(Path("webshop_data"))) == (0, {name: shop[name] for name in SMALL})
    assert said.count("SHA-256 as published; set panels.webshop.data_dir to webshop_data") == 3
    assert (mine / SMALL[0]).exists()


def test_what_is_still_lacking_is_said(fetch: Any, shop: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / SMALL[0]).write_bytes(shop[SMALL[0]])
    code, said = fetch("webshop", "--from", tmp_path / SMALL[0])
    assert code == 1 and f"still lacking: webshop_data lacks {SMALL[1]}, {SMALL[2]}" in said
    assert list(written(Path("webshop_data"))) == [SMALL[0]]


def bad_files(shop: dict[str, bytes]) -> dict[str, tuple[bytes, str]]:
    small = shop["items_shuffle_1000.json"]
    return {
        "half": (small[:5], f"{len(small):,} bytes expected, 5 found: half a download"),
        "goals": (
            shop["items_human_ins.json"],
            "by its size this is items_human_ins.json, not items_shuffle_1000.json",
        ),
        "large": (shop["items_shuffle.json"], "by its size this is items_shuffle.json, not items_shuffle_1000.json"),
        "page": (b"\n<!doctype html><title>Virus scan warning</title>" * 99, "a page of HTML under the name of"),
        "longer": (small + small, "not the file of the release"),
        "altered": (small.replace(b"asin", b"nisa"), "SHA-256"),
    }


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("fault", ["half", "goals", "large", "page", "longer", "altered"])
def test_another_file_under_an_official_name_is_refused_in_one_line(
    fetch: Any, shop: dict[str, bytes], tmp_path: Path, fault: str, form: str
) -> None:
    content, reason = bad_files(shop)[fault]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / SMALL[0]).write_bytes(content)
    source = mine if form == "folder" else pack(mine, tmp_path / "data.zip")
    code, said = fetch("webshop", "--from", source)
    assert code == 1 and said.count("\n") == 1 and SMALL[0] in said and written(Path("webshop_data")) == {}
    assert reason in said if form == "folder" or fault == "altered" else "bytes expected" in said


def test_a_broken_file_in_the_settings_folder_is_named_and_left(
    fetch: Any, shop: dict[str, bytes], tmp_path: Path
) -> None:
    for folder in ("mine", "webshop_data"):
        Path(folder).mkdir()
        for name in SMALL:
            Path(folder, name).write_bytes(shop[name])
    broken = Path("webshop_data", SMALL[2])
    broken.write_bytes(shop[SMALL[2]][:-5])
    for way in (("--download",), ("--from", "mine")):
        code, said = fetch("webshop", *way)
        assert code == 1 and f"{broken}: " in said and "half a download. Delete it or move it away" in said
    assert broken.read_bytes() == shop[SMALL[2]][:-5]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"<html>", "begins as a page of HTML"), (b"PK\x03\x04", "no whole archive"), (b"{}", "neither a folder, nor")],
)
def test_what_holds_no_data_is_named(
    fetch: Any, shop: dict[str, bytes], tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "data").write_bytes(content)
    code, said = fetch("webshop", "--from", tmp_path / "data")
    assert code == 1 and reason in said and said.count("\n") == 1
    (tmp_path / "mine").mkdir()
    code, said = fetch("webshop", "--from", tmp_path / "mine", zipped(tmp_path / "empty.zip", {"readme": b""}))
    assert code == 1 and f"none of {', '.join(SMALL)} in it" in said
    code, said = fetch("webshop", "--from", tmp_path / "nowhere")
    assert code == 1 and "nowhere: no such file or folder" in said


def test_a_full_disk_leaves_nothing(
    fetch: Any, shop: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / SMALL[0]).write_bytes(shop[SMALL[0]])

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("stages.core.files.os.replace", full)
    code, said = fetch("webshop", "--from", tmp_path / SMALL[0])
    assert code == 1 and f"webshop_data/{SMALL[0]}: the disk is full; nothing was left of it" in said


def test_a_folder_that_cannot_be_made_is_one_line(fetch: Any, shop: dict[str, bytes], tmp_path: Path) -> None:
    setting("webshop", data_dir="params.yaml/shop")
    (tmp_path / SMALL[0]).write_bytes(shop[SMALL[0]])
    code, said = fetch("webshop", "--from", tmp_path / SMALL[0])
    assert code == 1 and said == "params.yaml/shop: Not a directory; see to it and fetch again\n"
