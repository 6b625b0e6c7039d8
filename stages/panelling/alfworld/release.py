"""ALFWorld's official games: their release archive, and folders or archives of games that lie here already.

The address is alfworld's own (`alfworld-download` of 0.4.2); the archive's inner folder is named json_2.1.1. It is published without a
checksum: size and hash are those on which projects that publish theirs agree.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from stages.core.files import CACHE, replacing, settled
from stages.envs.panel import PanelError
from stages.panelling.alfworld.official import SPLITS, find_root, read_games
from stages.panelling.alfworld.settings import AlfworldPanels
from stages.panelling.archives import is_archive, unpack
from stages.panelling.download import fetch
from stages.panelling.release import Piece, Release, ReleaseError, check, look, noticing_full, put

_URL = "https://github.com/alfworld/alfworld/releases/download/0.4.0/json_2.1.2_tw-pddl.zip"
ARCHIVE = Piece(
    "json_2.1.2_tw-pddl.zip",
    36_493_542,
    "eea90499df27b9cb3147d1d1927264146d38194b575e25f70a82875545742dcb",
    _URL,
    _URL,
)
DOWNLOADS = CACHE / "downloads"
FOLDER = Path("alfworld_data")
"""Where games from elsewhere go as long as panels.alfworld.official.data_dir says nothing."""

GAMES = re.compile(rf"(?:.*/)?(?P<path>(?:{'|'.join(SPLITS)})/[^/]+/[^/]+/game\.tw-pddl)")
"""The games among an archive's members."""


class AlfworldRelease(Release):
    """The release archive, or the folder of games that the settings name."""

    title = "ALFWorld's text games: 3,553 train, 140 valid_seen, 134 valid_unseen"
    origin = "github.com/alfworld/alfworld, release 0.4.0"
    licence = "MIT"
    pieces = (ARCHIVE,)

    def __init__(self, settings: AlfworldPanels, downloads: Path = DOWNLOADS) -> None:
        self.official = settings.official
        self.games = settled(self.official.data_dir) if self.official.data_dir else None
        self.archive = downloads / ARCHIVE.name
        self.place = self.games or self.archive

    def lacking(self) -> list[str]:
        if self.games is None:
            wrong = look(self.archive, ARCHIVE, ()) if self.archive.is_file() else "missing"
            return [f"{self.archive}: {wrong}"] if wrong else []
        try:
            find_root(self.games)
        except PanelError as error:
            return [str(error)]
        return []

    def download(self) -> list[str]:
        archive = fetch(ARCHIVE, self.archive.parent)
        if self.games is None:
            return [
                f"{archive}: {ARCHIVE.size:,} bytes, SHA-256 as published; the panels stage reads the games out of it"
            ]
        return [self._placed(archive, lambda out: _unpacked(archive, out))]

    def take(self, sources: Sequence[Path]) -> list[str]:
        if len(sources) != 1:
            raise ReleaseError(
                f"{', '.join(map(str, sources))}: one folder or archive expected that holds all three splits"
            )
        [source] = sources
        if source.is_dir():
            return [self._placed(source, lambda out: _copied(source, out))]
        if not is_archive(source):
            raise ReleaseError(
                f"{source}: neither a folder nor a zip or tar archive; get {ARCHIVE.name} from {ARCHIVE.page}"
            )
        if self.games is None and not look(source, ARCHIVE, ()):
            if self.archive.exists():
                check(self.archive, ARCHIVE)
            else:
                with source.open("rb") as stream:
                    put(stream, ARCHIVE, self.archive, str(source))
            return [f"{self.archive}: the release archive; the panels stage reads the games out of it"]
        return [self._placed(source, lambda out: _unpacked(source, out))]

    def _placed(self, source: Path, fill: Callable[[Path], None]) -> str:
        """Fill the folder of games, if it is a fresh one, and count them. Raises `ReleaseError`."""
        goal = self.games or FOLDER
        if source.is_dir() and goal.is_dir() and source.samefile(goal):
            return f"{goal}: {self._counted(goal, source)}"
        if goal.exists() and (not goal.is_dir() or any(goal.iterdir())):
            raise ReleaseError(
                f"{goal}: in use; games are put into a fresh folder only. Move it away, or set panels.alfworld.official.data_dir"
            )
        with noticing_full(goal), replacing(goal) as fresh:
            fill(fresh)
            counted = self._counted(fresh, source)
        unset = "" if self.games else f"; set panels.alfworld.official.data_dir to {goal}"
        self.games = goal
        return f"{goal}: {counted}{unset}"

    def _counted(self, folder: Path, source: Path) -> str:
        counts = self.official.counts
        try:
            games = read_games(find_root(folder), counts.model_dump() if counts else None)
        except PanelError as error:
            raise ReleaseError(" ".join(str(error).replace(str(folder), str(source)).split())) from error
        return ", ".join(f"{len(found):,} {split} games" for split, found in games.items())


def _unpacked(archive: Path, out: Path) -> None:
    if not unpack(archive, out, GAMES):
        raise ReleaseError(
            f"{archive}: no <split>/<goal>/<trial>/game.tw-pddl in it, so no games; of the releases {ARCHIVE.name} holds them, "
            "json_2.1.1_json.zip and json_2.1.1_pddl.zip do not"
        )


def _copied(source: Path, out: Path) -> None:
    try:
        root = find_root(source)
    except PanelError as error:
        raise ReleaseError(str(error)) from error
    for split in SPLITS:
        for game in root.glob(f"{split}/*/*/game.tw-pddl"):
            goal = out / game.relative_to(root)
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(game, goal)
