"""How demonstrations are drawn, in any environment."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from stages.core.params import Hints
from stages.envs.base import Task


@dataclass(frozen=True)
class Writing:
    """How many demonstrations of hint writing there are, and the settings that say how the writer `self` is asked."""

    number: int
    settings: Hints


@dataclass(frozen=True)
class Plan:
    """How demonstrations are drawn; the fields are those of `warmup` in params.yaml. `writing` is None where hint writing is not
    demonstrated."""

    seed: int
    withheld: Sequence[str]
    hinted_share: float
    nonce: int
    subsample: float
    recovery_share: float
    writing: Writing | None = None

    def taught(self, jobs: Sequence[tuple[Task, bool]], agent: str) -> list[tuple[int, Task, bool]]:
        """The share of numbered jobs (a task, and whether it is made up) that one agent is taught; agents of one environment learn from each
        other's."""
        # The word is part of the seed of the committed demonstrations.
        rng = random.Random(f"shown|{self.seed}|{agent}")
        return [(number, task, nonce) for number, (task, nonce) in enumerate(jobs) if rng.random() < self.subsample]
