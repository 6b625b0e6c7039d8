"""What is compared, and the banks that it takes."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stages import hints
from stages.core.params import Cell, Scope, Settings, Way
from stages.core.records import Episode, read
from stages.envs.base import Task
from stages.envs.panel import load_panel
from stages.envs.registry import make
from stages.hinting.base import Failure, rules_of
from stages.hinting.contrast import beside

NONE = "none"  # the writer where no hints are shown
WAYS: tuple[Way, ...] = ("rank", "bm25", "dense")
KS = (1, 3, 6, 9)
SHARES = (0.5, 0.25)
DRAWS = (0, 1, 2)  # which failures a share has, by the seed that draws them


@dataclass(frozen=True)
class Condition:
    """Who wrote the hints from which share of the failures (0 to 1, by `draw`), how they are chosen, and how many are shown."""

    writer: str
    share: float = 1.0
    draw: int = 0
    way: Way = "rank"
    scope: Scope = "category"
    k: int = 3

    @property
    def bank(self) -> tuple[str, float, int]:
        """What its bank is told apart by."""
        return self.writer, self.share, self.draw


BASE = Condition(NONE, k=0)


def conditions() -> list[Condition]:
    """All that the dev panel is played with. A model of 135 M parameters never answers `llm` with numbers, so it has one row, to show that."""
    return [
        BASE,
        *(Condition("rules", way=way, k=k) for way in WAYS for k in KS),
        *(Condition("rules", way=way, scope="bank") for way in WAYS),
        Condition("rules", way="llm"),
        *(Condition("rules", share, draw) for share in SHARES for draw in DRAWS),
        *(Condition("self", way=way, k=k) for way in ("rank", "bm25") for k in (1, 3)),
    ]


def for_train(played: Sequence[Condition]) -> list[Condition]:
    """Those of them that the train panel is played with: k = 3, and no question to the model."""
    return [c for c in played if c == BASE or (c.k == 3 and c.way != "llm")]


def drawn(failures: Sequence[Failure], share: float, draw: int) -> list[Failure]:
    """A share of the failures, rounded up, in their order. Smaller shares of a draw lie within larger ones."""
    shuffled = sorted(failure.episode.task_id for failure in failures)
    random.Random(draw).shuffle(shuffled)
    taken = set(shuffled[: math.ceil(share * len(failures))])
    return [failure for failure in failures if failure.episode.task_id in taken]


class Banks:
    """The banks of a cell, made of its rollouts by the stage `hints`, without what people changed in its own; each is made once."""

    def __init__(self, settings: Settings, cell: Cell, data: Path) -> None:
        self._settings, self._cell = settings, cell
        self._source, self._panels = data / "rollouts" / cell / "episodes.parquet", data / "panels" / cell.env
        self._rules = rules_of(cell.env)
        self._made: dict[tuple[str, float, int], hints.Tables] = {}

    @cached_property
    def _episodes(self) -> list[Episode]:
        return read(self._source, Episode)

    @cached_property
    def _panel(self) -> tuple[list[Task], str]:
        return load_panel(self._panels, hints.PANEL)

    @property
    def tasks(self) -> list[Task]:
        """The train panel's tasks."""
        return self._panel[0]

    @cached_property
    def failures(self) -> list[Failure]:
        """All failures, with what stands beside them. Raises `HintError` where the rollouts are of another panel."""
        settings, rules = self._settings.hints, self._rules
        tasks, sha256 = self._panel
        failed = hints.failures(self._episodes, sha256, str(self._source))
        env = make(self._cell.env, self._panels) if failed and settings.probing and rules.probe else None
        tried = hints.probe_all(failed, tasks, env, rules, settings.probing)
        return [*beside(failed, tried, self._episodes, settings.evidence)]

    def of(self, condition: Condition) -> hints.Tables:
        """The tables of a condition's bank."""
        name = writer, share, draw = condition.bank
        if name not in self._made:
            chosen = self._settings.hints.model_copy(update={"writer": writer})
            study = self._settings.model_copy(update={"hints": chosen})
            failed = drawn(self.failures, share, draw)
            self._made[name], _ = hints.learn(failed, self._episodes, self._rules, study, self._panels)
        return self._made[name]

    def facts(self) -> list[dict[str, Any]]:
        """A row for each bank that was made."""
        return [
            {
                "cell": self._cell,
                "writer": writer,
                "share": share,
                "draw": draw,
                "failures": len(drawn(self.failures, share, draw)),
                "hints": len(made.hints),
                "rejected": dict(sorted(Counter(r.reason for r in made.rejected).items())),
                "entries": len(made.bank),
                "write_tokens": sum(a.prompt_tokens + a.reply_tokens for a in made.answers),
            }
            for (writer, share, draw), made in self._made.items()
        ]
