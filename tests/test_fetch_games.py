"""ALFWorld's official games: downloaded from a real server, and taken from what lies here already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fetching import pack, setting
from official_games import alter, goals, write_official
from origin import Origin
from test_archives import zipped

from stages.envs.panel import PanelError, load_panel
from stages.panelling.alfworld import official_panels
from stages.panelling.alfworld import release as games_release
from stages.panelling.alfworld.settings import AlfworldPanels, OfficialAlfworld

pytest_plugins = ["origin", "fetching"]

ARCHIVE = ".cache/downloads/json_2.1.2_tw-pddl.zip"
COUNTS = {"train": 2, "valid_seen": 1, "valid_unseen": 1}


@pytest.fixture
def games(elsewhere: None, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of games as alfworld's archive has it, which is published at the origin; the settings ask for as many."""
    put = goals("put", 4)
    splits = {"train": {put[0]: 1, put[3]: 1}, "valid_seen": {put[1]: 1}, "valid_unseen": {put[2]: 1}}
    root = write_official(tmp_path / "mine" / "json_2.1.1", splits)
    packed = pack(root.parent, tmp_path / "mine.zip").read_bytes()
    monkeypatch.setattr(games_release, "ARCHIVE", origin.publish("json_2.1.2_tw-pddl.zip", packed))
    setting("alfworld", official__counts=COUNTS)
    return root.parent


def test_the_release_archive_is_downloaded_to_where_the_panels_stage_looks(
    fetch: Any, games: Path, origin: Origin
) -> None:
    code, said = fetch("alfworld", "--download")
    assert code == 0 and f"{ARCHIVE}: " in said and Path(ARCHIVE).read_bytes() == Path("mine.zip").read_bytes()
    build("out")
    assert len(load_panel(Path("out"), "test")[0]) == 1
    assert f'"{Path(ARCHIVE).name}": "{games_release.ARCHIVE.sha256}"' in Path("out/panels.json").read_text()
    assert len(origin.asked) == 1


def test_the_panels_stage_downloads_the_archive_by_itself(games: Path, origin: Origin) -> None:
    build("out")
    assert origin.asked == [None] and Path(ARCHIVE).is_file()
    assert sorted(path.name for path in Path(ARCHIVE).parent.iterdir()) == [Path(ARCHIVE).name]


def test_panels_are_not_built_from_a_damaged_archive(games: Path) -> None:
    Path(ARCHIVE).parent.mkdir(parents=True)
    Path(ARCHIVE).write_bytes(Path("mine.zip").read_bytes()[:5000])
    with pytest.raises(PanelError, match=r"half a download. Delete it.*panels\.alfworld\.official\.data_dir"):
        build("out")
    assert not Path("out").exists()


def build(out: str) -> None:
    values = {"data_dir": None, "train": 1, "dev": 1, "warmup": 0, "shared_goals": "drop", "counts": COUNTS}
    panels = AlfworldPanels(source="official", seed=1, sizes={}, official=OfficialAlfworld.model_validate(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(official_panels, "start_games", lambda *_: None)
        official_panels.build_panels(panels, Path(out), Path("cache"), Path(".cache/downloads"))


def test_an_archive_that_lies_here_is_taken_for_the_panels_stage(fetch: Any, games: Path, origin: Origin) -> None:
    code, said = fetch("alfworld", "--from", "mine.zip")
    assert code == 0 and f"{ARCHIVE}: the release archive" in said
    assert f"`python -m stages fetch alfworld --from {ARCHIVE}` reads it" in fetch("alfworld")[1]
    assert fetch("alfworld", "--from", ARCHIVE)[0] == 0
    assert Path(ARCHIVE).read_bytes() == Path("mine.zip").read_bytes() and origin.asked == []


@pytest.mark.parametrize("form", ["folder", "zip", "download"])
def test_games_go_to_the_settings_folder_and_are_counted(fetch: Any, games: Path, form: str) -> None:
    (games / "json_2.1.1" / "train" / "readme.txt").write_text("no game")
    setting("alfworld", official__data_dir="games")
    way = {"folder": ["--from", games], "zip": ["--from", pack(games, Path("other.zip"))], "download": ["--download"]}[
        form
    ]
    code, said = fetch("alfworld", *way)
    assert code == 0 and said.endswith("games: 2 train games, 1 valid_seen games, 1 valid_unseen games\n")
    copied, mine = (
        {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("game.tw-pddl")}
        for root in (Path("games"), games / "json_2.1.1")
    )
    assert copied == mine and len(copied) == 4 and not list(Path("games").rglob("readme.txt"))
    assert fetch("alfworld", "--from", "games")[0] == 0
    code, said = fetch("alfworld", "--from", games)
    assert code == 1 and "games: in use; games are put into a fresh folder only" in said


def test_games_without_a_folder_in_the_settings_say_what_to_set(fetch: Any, games: Path) -> None:
    code, said = fetch("alfworld", "--from", games)
    assert code == 0 and "set panels.alfworld.official.data_dir to alfworld_data" in said
    assert len(list(Path("alfworld_data").rglob("game.tw-pddl"))) == 4


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_counts_that_do_not_agree_are_one_line(fetch: Any, games: Path, form: str) -> None:
    setting(
        "alfworld", official__data_dir="games", official__counts={"train": 3553, "valid_seen": 140, "valid_unseen": 134}
    )
    source = games if form == "folder" else pack(games, Path("other.zip"))
    code, said = fetch("alfworld", "--from", source)
    assert code == 1 and said.count("\n") == 1 and str(source) in said
    assert "3,553 train games expected, 2 found; 140 valid_seen games expected, 1 found" in said
    assert not Path("games").exists()


def test_games_that_cannot_be_used_are_one_line(fetch: Any, games: Path) -> None:
    alter(next(games.rglob("game.tw-pddl")), solvable=None)
    code, said = fetch("alfworld", "--from", games)
    assert code == 1 and said.count("\n") == 1 and "no `solvable` in it" in said and not Path("alfworld_data").exists()


def test_an_archive_without_the_games_says_which_has_them(fetch: Any, games: Path) -> None:
    archive = zipped(Path("json_2.1.1_json.zip"), {"json_2.1.1/train/goal/trial/traj_data.json": b"{}"})
    code, said = fetch("alfworld", "--from", archive)
    assert (
        code == 1 and "so no games; of the releases json_2.1.2_tw-pddl.zip holds them" in said and said.count("\n") == 1
    )
    assert not Path("alfworld_data").exists()


def test_half_an_archive_and_folders_without_games_are_one_line(fetch: Any, games: Path, tmp_path: Path) -> None:
    Path("half.zip").write_bytes(Path("mine.zip").read_bytes()[:5000])
    (tmp_path / "empty").mkdir()
    Path("page.zip").write_text("<html>")
    for source, reason in (
        (["half.zip"], "no whole archive"),
        (["empty"], "expected the folders train, valid_seen, valid_unseen"),
        (["page.zip"], "neither a folder nor a zip or tar archive"),
        (["mine.zip", "empty"], "one folder or archive expected"),
    ):
        code, said = fetch("alfworld", "--from", *source)
        assert code == 1 and reason in said and said.count("\n") == 1, said
    assert not Path("alfworld_data").exists() and not Path(ARCHIVE).exists()


def test_an_archive_with_another_hash_under_the_releases_size_is_refused(
    fetch: Any, games: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(games_release, "ARCHIVE", replace(games_release.ARCHIVE, sha256="0" * 64))
    code, said = fetch("alfworld", "--from", "mine.zip")
    assert code == 1 and f"mine.zip: SHA-256 {'0' * 64} expected" in said and not Path(ARCHIVE).exists()
