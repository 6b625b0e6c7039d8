"""Panels of official ALFWorld games: obtained, drawn, started once in the real engine, copied into the panel's folder."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from stages.core.files import settled
from stages.envs.base import Task
from stages.envs.panel import PanelError, cut, write_panels
from stages.panelling import STUDY
from stages.panelling.alfworld import release
from stages.panelling.alfworld.checks import start_games
from stages.panelling.alfworld.official import SPLITS, Drawn, OfficialGame, draw, find_root, read_games
from stages.panelling.alfworld.settings import AlfworldPanels, OfficialAlfworld
from stages.panelling.archives import unpack
from stages.panelling.download import fetch
from stages.panelling.release import ReleaseError

_GAMES = "games"


def build_panels(
    settings: AlfworldPanels,
    out: Path,
    cache_dir: Path,
    downloads: Path,
    limit: Mapping[str, int | None] = MappingProxyType({}),
    names: Collection[str] = STUDY,
    workers: int = 2,
) -> None:
    """Build the panels of these names into the folder `out`, of each at most `limit` games.

    The same games and settings give the same bytes. An archive is kept in `downloads`, translations of the games in
    `cache_dir`. Raises PanelError for games or sizes that won't do, EnvironmentFault for games that don't start.
    """
    official = settings.official
    with _games_folder(official, downloads) as (folder, files):
        root = find_root(folder)
        games = read_games(root, official.counts.model_dump() if official.counts else None)
        drawn = draw(games, official, settings.seed)
        chosen = {
            name: cut(panel, lambda game: game.category, limit.get(name))
            for name, panel in drawn.panels.items()
            if name in names
        }
        start_games([root / game.path for panel in chosen.values() for game in panel], cache_dir, workers)
        out.mkdir(parents=True, exist_ok=True)
        tasks = {panel: _copied(root, out, panel, games_) for panel, games_ in chosen.items()}
        write_panels(out, "alfworld", _source(games, drawn), tasks, files)


@contextmanager
def _games_folder(settings: OfficialAlfworld, downloads: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """The folder with the games, and the archive they came from with its SHA-256, if any."""
    if settings.data_dir is not None:
        yield settled(settings.data_dir), {}
        return
    downloads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=downloads, prefix=".alfworld.") as folder:
        try:
            archive = fetch(release.ARCHIVE, downloads)
            unpack(archive, Path(folder), release.GAMES)
        except ReleaseError as error:
            raise PanelError(
                f"{error}. Games from elsewhere are taken too: panels.alfworld.official.data_dir"
            ) from error
        yield Path(folder), {archive.name: release.ARCHIVE.sha256}


def _copied(root: Path, out: Path, panel: str, games: Sequence[OfficialGame]) -> list[Task]:
    """A panel's tasks, in the games' order; their files are copied below `out`."""
    numbers: Counter[str] = Counter()
    tasks = []
    for game in games:
        content = (root / game.path).read_bytes()
        copy = out / _GAMES / game.path
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
        spec = {
            "game": f"{_GAMES}/{game.path}",
            "sha256": hashlib.sha256(content).hexdigest(),
            **game.goal._asdict(),
        }
        task_id = f"alfworld-{panel}-{game.category}-{numbers[game.category]:04d}"
        tasks.append(Task(task_id, "alfworld", panel, game.category, game.sentence, spec))
        numbers[game.category] += 1
    return tasks


def _source(games: Mapping[str, Sequence[OfficialGame]], drawn: Drawn) -> str:
    """Where the tasks came from, as tables and reports quote it."""
    releases = " and ".join(sorted({game.release for split in games.values() for game in split}))
    found = ", ".join(f"{len(games[split]):,} {split}" for split in SPLITS)
    fate = "left out" if drawn.withdrawn == drawn.shared else "kept"
    return f"official ({releases}; {found}; {drawn.shared:,} train games {fate}, whose goals valid_seen or valid_unseen have too)"
