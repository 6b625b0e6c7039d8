"""How demonstrations are drawn, in any environment."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from stages.envs.base import Task


@dataclass(frozen=True)
class Plan:
    """How demonstrations are drawn; the fields are those of `warmup` in params.yaml."""

    seed: int
    withheld: Sequence[str]
    hinted_share: float
    nonce: int
    subsample: float
    recovery_share: float

    def taught(self, jobs: Sequence[tuple[Task, bool]], agent: str) -> list[tuple[int, Task, bool]]:
        """The share of numbered jobs (a task, and whether it is made up) that one agent is taught; agents of one environment learn from each
        other's."""
        # The word is part of the seed of the committed demonstrations.
        rng = random.Random(f"shown|{self.seed}|{agent}")
        return [(number, task, nonce) for number, (task, nonce) in enumerate(jobs) if rng.random() < self.subsample]
