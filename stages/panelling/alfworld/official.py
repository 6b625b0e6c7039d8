"""The official ALFWorld games: found in their folder, checked, and drawn into the paper's panels.

They lie in `<split>/<task type>-<object>-<movable>-<receptacle>-<scene>/<trial>/game.tw-pddl`. As in alfworld's own
collection, games with a movable receptacle or a sliced object, and unsolvable ones, are no part of the benchmark; which
games count never depends on the order in which a file system lists them.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from stages.envs.alfworld import CATEGORY, TASK_TYPE
from stages.envs.alfworld.engine import read_grammar
from stages.envs.panel import PanelError
from stages.panelling.alfworld.generator import GAME_FILE, Goal
from stages.panelling.alfworld.settings import OfficialAlfworld

SPLITS = ("train", "valid_seen", "valid_unseen")
_UNSUPPORTED = ("movable", "Sliced")
_PARTS = ("pddl_domain", "pddl_problem", "grammar")
_NO_VERDICT = (
    "no `solvable` in it, so that alfworld itself would pass it over: it is of a json_2.1.1 archive without verdicts, or "
    "alfworld-play-tw wrote over it. Get the games again into a fresh folder (data_dir: null downloads them)"
)


@dataclass(frozen=True)
class OfficialGame:
    """A game as its folder names it. `path` is relative to the folder of the splits, with slashes; `release` is the
    first official data whose grammar it has."""

    path: str
    goal: Goal
    sentence: str
    release: str

    @property
    def split(self) -> str:
        return self.path.partition("/")[0]

    @property
    def category(self) -> str:
        return CATEGORY[self.goal.task_type]


@dataclass(frozen=True)
class Drawn:
    """Games by panel. `shared` train games have goals that a measured split has too, in the same room; `withdrawn` of them are in no panel."""

    panels: dict[str, list[OfficialGame]]
    shared: int
    withdrawn: int


class _Unusable(ValueError):
    """Why a game can't be used, in words that many games may share."""


def find_root(folder: Path) -> Path:
    """The folder that holds the three splits: `folder`, or a json_2.1.* in it. Raises PanelError if there is no such."""
    found = [p for p in (folder, *sorted(folder.glob("json_2.1.*"))) if all((p / split).is_dir() for split in SPLITS)]
    if len(found) != 1:
        raise PanelError(
            f"{folder}: expected the folders {', '.join(SPLITS)}, in it or in one json_2.1.* folder of it, found "
            f"{' and '.join(p.name for p in found) or 'none'}. Set panels.alfworld.official.data_dir to the folder they "
            "are in, or to null to download them"
        )
    return found[0]


def read_games(root: Path, counts: Mapping[str, int] | None) -> dict[str, list[OfficialGame]]:
    """The playable games of each split, sorted by path; `counts` says how many there should be, None takes any.

    Raises PanelError that names everything wrong with the folder.
    """
    paths = sorted(p.relative_to(root).as_posix() for split in SPLITS for p in root.glob(f"{split}/*/*/{GAME_FILE}"))
    games: dict[str, list[OfficialGame]] = {split: [] for split in SPLITS}
    unusable: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        try:
            game = _read_game(root, path)
        except _Unusable as reason:
            unusable[str(reason)].append(path)
        else:
            if game is not None:
                games[game.split].append(game)
    faults = [f"{_number(len(bad))}, {bad[0]} the first: {reason}" for reason, bad in unusable.items()]
    found = {split: len(games[split]) for split in SPLITS}
    if not unusable and (fault := _miscounted(found, counts)):
        faults.append(fault)
    if faults:
        raise PanelError(f"{root}: these official games can't be used as they are\n  " + "\n  ".join(faults))
    return games


def draw(games: Mapping[str, Sequence[OfficialGame]], settings: OfficialAlfworld, seed: int) -> Drawn:
    """The panels: `test` and `test_seen` are the valid splits as they are; `dev`, `train` and `warmup` are drawn by the
    seed from the train games, and share no goal with each other, nor with a valid split unless `shared_goals` keeps such games. dev has its
    categories in turn.

    Raises PanelError when there are too few games.
    """
    measured = {game.goal for split in ("valid_seen", "valid_unseen") for game in games[split]}
    shared = sum(game.goal in measured for game in games["train"])
    left = [g for g in games["train"] if settings.shared_goals == "keep" or g.goal not in measured]
    withdrawn = len(games["train"]) - len(left)
    rng = random.Random(f"alfworld-official-1|{seed}")
    rank = {goal: rng.random() for goal in sorted({game.goal for game in left})}
    left.sort(key=lambda game: (rank[game.goal], game.path))  # a goal's trials stay together
    panels: dict[str, list[OfficialGame]] = {}
    for panel, number in (("dev", settings.dev), ("train", settings.train), ("warmup", settings.warmup)):
        pool = left if panel == "train" else _in_turn(left)
        if len(pool) < number:
            raise PanelError(
                f"panel {panel!r} asks for {number:,} games, and {len(pool):,} of {len(games['train']):,} train games are "
                f"left: {withdrawn:,} share a goal with a valid split and are left out. Ask for fewer in panels.alfworld.official"
            )
        panels[panel] = sorted(pool[:number], key=lambda game: game.path)
        taken = {game.goal for game in panels[panel]}
        left = [game for game in left if game.goal not in taken]
    shown = {"warmup": panels["warmup"], "train": panels["train"], "dev": panels["dev"]}
    shown |= {"test": list(games["valid_unseen"]), "test_seen": list(games["valid_seen"])}
    return Drawn({panel: chosen for panel, chosen in shown.items() if chosen}, shared, withdrawn)


def _read_game(root: Path, path: str) -> OfficialGame | None:
    """One game, or None if it is no part of the benchmark. Raises _Unusable."""
    folder = path.split("/")[1]
    if any(word in folder for word in _UNSUPPORTED):
        return None
    content = _content(root / path)
    if "solvable" not in content:
        raise _Unusable(_NO_VERDICT)
    if not content["solvable"]:
        return None
    missing = [part for part in _PARTS if not isinstance(content.get(part), str)]
    if missing:
        raise _Unusable(f"no {' and no '.join(missing)} in it")
    try:
        grammar = read_grammar(content["grammar"])
    except ValueError as error:
        raise _Unusable(str(error)) from error
    return OfficialGame(path, _goal(folder), grammar.sentence, grammar.release)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _Unusable(f"it can't be read ({error.strerror})") from error
    except ValueError as error:
        raise _Unusable("a game is a JSON file, and this is none; get it again") from error
    if not isinstance(content, dict):
        raise _Unusable("a game is a JSON object, and this is none; get it again")
    return content


def _goal(folder: str) -> Goal:
    task_type, *names, scene = folder.split("-")
    if task_type not in CATEGORY or len(names) != 3 or not scene.isdecimal():
        raise _Unusable(
            "its folder isn't named <task type>-<object>-<movable>-<receptacle>-<scene>, or its task type is none of "
            + ", ".join(CATEGORY)
        )
    return Goal(task_type, int(scene), names[0], names[2])


def _miscounted(found: Mapping[str, int], counts: Mapping[str, int] | None) -> str:
    """What is wrong with the numbers of games, or nothing."""
    if counts is None:
        empty = [split for split, n in found.items() if not n]
        return f"no playable game in {' and '.join(empty)}" if empty else ""
    wrong = [f"{counts[s]:,} {s} games expected, {n:,} found" for s, n in found.items() if n != counts[s]]
    if not wrong:
        return ""
    return f"{'; '.join(wrong)} (set panels.alfworld.official.counts to null or to these numbers to accept them)"


def _number(n: int) -> str:
    return "1 game" if n == 1 else f"{n:,} games"


def _in_turn(games: Sequence[OfficialGame]) -> list[OfficialGame]:
    """The games, one of each category after the other as long as they last."""
    queues = [[game for game in games if game.category == category] for category in TASK_TYPE]
    return [game for round_ in zip_longest(*queues) for game in round_ if game is not None]
