"""Paired comparisons of systems, as rows of `metrics/contrasts.json`.

One contrast was declared before any result: the distilled student against fine-tuning on the agent's own successes, on
the test panel, by success (ALFWorld) or score (WebShop). Its p-value stands as it is; all others of the same
environment, agent and panel form one family under Holm's correction.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.core.records import Episode
from stages.stats.holm import holm
from stages.stats.paired import bootstrap_interval, discordant, mcnemar, sign_flip
from stages.stats.systems import STUDENTS, billed

PRIMARY = ("distilled", "sft")
PRIMARY_PANEL = "test"
ALPHA = 0.05  # by which a difference is called one; the p-value stands beside it
PAIRS = (
    PRIMARY,
    ("distilled", "base"),
    ("distilled", "rag"),
    ("rag", "base"),
    ("rag", "constant"),
    ("rag", "random"),
    ("sft", "base"),
    ("distilled", "distilled_random"),
    ("distilled_random", "sft"),
    ("distilled_random", "base"),
    ("on_policy", "distilled"),
    ("on_policy", "sft"),
    ("on_policy", "base"),
    ("hinted", "distilled"),
    ("hinted", "rag"),
    ("rag", "rag_wrong"),
    ("oracle", "rag"),
    ("distilled_rag", "distilled"),
    ("distilled_rag", "rag"),
)

Sides = Sequence[tuple[Sequence[Episode], Sequence[Episode]]]  # a pair of runs a training seed


@dataclass(frozen=True)
class ContrastRow:
    """System `a` minus system `b` over the `n` tasks both played.

    Units of `difference`, `low`, `high`, `mean_a`, `mean_b`: a fraction for success, points (reward x 100) for score,
    billed tokens an episode for tokens. `low` and `high` are the 95 % paired bootstrap interval; None where the data
    set no bound (fewer than two tasks). `test` is `mcnemar` (success, one seed) or `sign_flip`. `p_holm` is
    Holm-adjusted, and None in the primary row. `only_a` and `only_b` count the tasks only one of them solved, summed
    over the seeds; None for other metrics. `dropped` tasks had a machine failure on either side.
    """

    env: str
    agent: str
    panel: str
    panel_sha256: str
    a: str
    b: str
    metric: str
    primary: bool
    n: int
    seeds: int
    mean_a: float
    mean_b: float
    difference: float
    low: float | None
    high: float | None
    test: str
    p_value: float
    p_holm: float | None
    only_a: int | None
    only_b: int | None
    dropped: int

    @property
    def p(self) -> float:
        """The p-value that it is judged by: corrected, but for the primary row."""
        return self.p_value if self.p_holm is None else self.p_holm

    @property
    def told_apart(self) -> bool:
        """Whether the difference is beyond noise."""
        return self.p < ALPHA


def primary_metric(graded: bool) -> str:
    """The metric the primary contrast is judged by."""
    return "score" if graded else "success"


def metrics_of(graded: bool) -> tuple[str, ...]:
    """The metrics compared in an environment: the graded score only where rewards are graded."""
    return ("success", "score", "tokens") if graded else ("success", "tokens")


def value(episode: Episode, metric: str) -> float:
    """An episode's figure for a metric, in the units of `ContrastRow`."""
    if metric == "success":
        return float(episode.success)
    return 100.0 * episode.reward if metric == "score" else float(billed(episode))


def contrast_rows(
    runs: Iterable[Sequence[Episode]], resamples: int, seed: int, graded: bool = False
) -> list[ContrastRow]:
    """All contrasts among the runs of one environment, agent and panel, Holm-adjusted. Absent systems have no row.

    The runs must have passed `check_panel`. `resamples` and `seed` rule the bootstrap and the permutations; every row
    has a generator of its own, so that a system more or less leaves the other rows' figures as they were.
    """
    by_system: dict[str, dict[int, Sequence[Episode]]] = {}
    for episodes in runs:
        by_system.setdefault(episodes[0].system, {})[episodes[0].seed] = episodes
    rows: list[ContrastRow] = []
    for a, b in PAIRS:
        sides = _paired_seeds(by_system.get(a, {}), by_system.get(b, {}), a, b)
        tasks = complete_tasks(sides)
        if tasks:
            rows += [contrast_row(sides, tasks, metric, resamples, seed, graded) for metric in metrics_of(graded)]
    return _adjusted(rows)


def _paired_seeds(
    a_runs: Mapping[int, Sequence[Episode]], b_runs: Mapping[int, Sequence[Episode]], a: str, b: str
) -> Sides:
    """Runs to compare, a pair a seed. A system that is not trained has one run, which meets every seed of a student."""
    if a in STUDENTS and b in STUDENTS:
        return [(a_runs[s], b_runs[s]) for s in sorted(a_runs.keys() & b_runs.keys())]
    return [(x, y) for _, x in sorted(a_runs.items()) for _, y in sorted(b_runs.items())]


def complete_tasks(sides: Sides) -> list[str]:
    """Tasks that no run broke off: only they can be paired over all seeds."""
    episodes = [e for pair in sides for run in pair for e in run]
    return sorted({e.task_id for e in episodes} - {e.task_id for e in episodes if e.stop == "machine"})


def contrast_row(
    sides: Sides, tasks: Sequence[str], metric: str, resamples: int, seed: int, graded: bool
) -> ContrastRow:
    """The first runs minus the second over `tasks`, one at least, which each run must have; without Holm's correction."""
    first, second = sides[0][0][0], sides[0][1][0]
    declared = (*PRIMARY, PRIMARY_PANEL, primary_metric(graded))
    a, b = (_matrix([pair[side] for pair in sides], tasks, metric) for side in (0, 1))
    name = f"{first.env} {first.agent} {first.panel} {first.system} {second.system} {metric}"
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    low, high = bootstrap_interval(a - b, resamples, rng)
    only_a, only_b = discordant((a > 0).ravel().tolist(), (b > 0).ravel().tolist())
    exact = metric == "success" and len(sides) == 1
    return ContrastRow(
        env=first.env,
        agent=first.agent,
        panel=first.panel,
        panel_sha256=first.panel_sha256,
        a=first.system,
        b=second.system,
        metric=metric,
        primary=(first.system, second.system, first.panel, metric) == declared,
        n=len(tasks),
        seeds=len(sides),
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
        difference=float((a - b).mean()),
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        test="mcnemar" if exact else "sign_flip",
        p_value=mcnemar(only_a, only_b) if exact else sign_flip(a - b, resamples, rng),
        p_holm=None,
        only_a=only_a if metric == "success" else None,
        only_b=only_b if metric == "success" else None,
        dropped=len(sides[0][0]) - len(tasks),
    )


def _matrix(runs: Sequence[Sequence[Episode]], tasks: Sequence[str], metric: str) -> NDArray[np.float64]:
    """Figures as seeds x tasks, in the order of `tasks`."""
    tables = [{e.task_id: value(e, metric) for e in run} for run in runs]
    return np.array([[table[t] for t in tasks] for table in tables], dtype=np.float64)


def _adjusted(rows: Sequence[ContrastRow]) -> list[ContrastRow]:
    adjusted = iter(holm([r.p_value for r in rows if not r.primary]))
    return [r if r.primary else dataclasses.replace(r, p_holm=next(adjusted)) for r in rows]
