"""Panels of generated ALFWorld games: drawn, won once in the real engine, written.

`warmup` and `train` play in the seen scenes, `dev` and `test` in the official unseen ones. No two panels share a goal
(task type, scene, object, receptacle); within a panel a goal comes back, in a room furnished anew, only after all
others have had their turn.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from stages.envs.alfworld import TASK_TYPE
from stages.envs.base import Task
from stages.envs.panel import PanelError, cut, write_panels
from stages.panelling import STUDY
from stages.panelling.alfworld.checks import win_games
from stages.panelling.alfworld.generator import GAME_FILE, Game, Goal, generate_game, possible_goals, write_game

UNSEEN: dict[str, bool] = {"warmup": False, "train": False, "dev": True, "test": True}
"""The panels there are, and whether they play in the unseen scenes."""

MAX_GAMES_PER_GOAL = 3
"""As in the official data, where a goal has up to three trials."""

_GAMES = "games"


class Settings(Protocol):
    """What to build: `sizes` gives the number of games by panel and category; a category left out has none."""

    @property
    def seed(self) -> int: ...

    @property
    def sizes(self) -> Mapping[Any, Mapping[Any, int]]: ...  # Any: str, or literals of it


def build_panels(
    settings: Settings,
    out: Path,
    cache_dir: Path,
    limit: Mapping[str, int | None] = MappingProxyType({}),
    names: Collection[str] = STUDY,
    workers: int = 2,
) -> None:
    """Build the panels of these names into the folder `out`, of each at most `limit` games.

    The same settings give the same bytes. The games' translations, made in checking them, stay in `cache_dir`. Raises
    PanelError for sizes that can't be met and EnvironmentFault for a game that can't be won.
    """
    drawn = draw_games(settings, names)
    panels = {name: cut(games, lambda game: game.goal.task_type, limit.get(name)) for name, games in drawn.items()}
    written = [write_game(out / _GAMES, game) for games in panels.values() for game in games]
    win_games(written, cache_dir, workers)
    write_panels(out, "alfworld", "generated", {panel: _tasks(panel, games) for panel, games in panels.items()})


def draw_games(settings: Settings, names: Collection[str] = tuple(UNSEEN)) -> dict[str, list[Game]]:
    """The games of the panels of these names, categories taking turns, so that any first part of a panel is balanced too. Which goals a panel
    has depends on the sizes of all."""
    dealt = _deal_goals(settings)
    return {
        panel: [
            game
            for round_ in zip_longest(
                *(
                    _draw(settings.seed, panel, category, sizes.get(category, 0), dealt.get((panel, category), []))
                    for category in TASK_TYPE
                )
            )
            for game in round_
            if game is not None
        ]
        for panel, sizes in settings.sizes.items()
        if panel in names
    }


def _deal_goals(settings: Settings) -> dict[tuple[str, str], list[Goal]]:
    """Goals for each panel and category: every possible goal goes to one panel at most, shares follow the sizes."""
    _check_sizes(settings.sizes)
    dealt: dict[tuple[str, str], list[Goal]] = {}
    for category, task_type in TASK_TYPE.items():
        for unseen in (False, True):
            wanted = {p: s[category] for p, s in settings.sizes.items() if UNSEEN[p] == unseen and s.get(category)}
            goals = list(possible_goals(task_type, unseen))
            random.Random(f"alfworld-deal-1|{settings.seed}|{category}|{unseen}").shuffle(goals)
            for panel, share in _shares(wanted, len(goals), category).items():
                dealt[panel, category] = sorted(goals[:share])
                goals = goals[share:]
    return dealt


def _shares(wanted: Mapping[str, int], available: int, category: str) -> dict[str, int]:
    """How many of `available` goals each panel gets: what it needs, and of the rest in proportion to its size."""
    least = {panel: -(-n // MAX_GAMES_PER_GOAL) for panel, n in wanted.items()}
    spare = available - sum(least.values())
    if spare < 0:
        raise PanelError(
            f"panels {' and '.join(wanted)} ask for {' and '.join(map(str, wanted.values()))} {category} games: more "
            f"than {MAX_GAMES_PER_GOAL} for each of the {available} goals that their scenes allow. Ask for fewer"
        )
    total = sum(wanted.values())
    return {panel: least[panel] + spare * n // total for panel, n in wanted.items()}


def _check_sizes(sizes: Mapping[str, Mapping[str, int]]) -> None:
    problems = [f"panel {p!r} is unknown, known are {', '.join(UNSEEN)}" for p in sizes if p not in UNSEEN]
    for panel, counts in sizes.items():
        for category, n in counts.items():
            if category not in TASK_TYPE:
                problems.append(f"{panel}: category {category!r} is unknown, known are {', '.join(TASK_TYPE)}")
            elif n < 0:
                problems.append(f"{panel}: {n} games of category {category!r}")
    if problems:
        raise PanelError("the panels' sizes can't be met: " + "; ".join(problems))


def _draw(seed: int, panel: str, category: str, number: int, goals: Sequence[Goal]) -> list[Game]:
    games: list[Game] = []
    left: list[Goal] = []
    for index in range(number):
        left = left or list(goals)
        game = generate_game(seed, panel, TASK_TYPE[category], index, UNSEEN[panel], left)
        left.remove(game.goal)
        games.append(game)
    return games


def _tasks(panel: str, games: Sequence[Game]) -> list[Task]:
    categories = {task_type: category for category, task_type in TASK_TYPE.items()}
    counts = dict.fromkeys(TASK_TYPE, 0)
    tasks = []
    for game in games:
        category = categories[game.goal.task_type]
        spec = {
            "game": f"{_GAMES}/{game.path}",
            "sha256": hashlib.sha256(game.files[GAME_FILE].encode()).hexdigest(),
            **game.goal._asdict(),
        }
        task_id = f"alfworld-{panel}-{category}-{counts[category]:04d}"
        tasks.append(Task(task_id, "alfworld", panel, category, game.sentence, spec))
        counts[category] += 1
    return tasks
