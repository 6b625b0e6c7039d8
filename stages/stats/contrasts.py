"""Paired comparisons of systems, as rows of `metrics/contrasts.json`.

One contrast was declared before any result: the distilled student against fine-tuning on the agent's own successes, on
the test panel, by success (ALFWorld) or score (WebShop). Its p-value stands as it is; all others of the same
environment, agent and panel form one family under Holm's correction. Students against the base agent also stand apart by
what a task calls for, a known or a withheld skill: what was lost, and what was gained. Those rows describe, with an
interval, and are in no family.
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
from stages.stats.paired import bootstrap, discordant, mcnemar, sign_flip
from stages.stats.power import ALPHA, detectable_mean, detectable_success
from stages.stats.systems import STUDENTS, ComparisonError, billed, label

PRIMARY = ("distilled", "sft")
PRIMARY_PANEL = "test"
BOUNDS = {"success": 1.0, "score": 100.0}  # no difference is larger
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
    """System `a` minus system `b` over the `n` tasks both played: `all` of the panel's, or those of `known` or `withheld` skills.

    Units of `difference`, `low`, `high`, `detectable`, `mean_a`, `mean_b`: a fraction for success, points (reward x 100)
    for score, billed tokens an episode for tokens. `low` and `high` are the 95 % paired bootstrap interval, over seeds and
    tasks where there are several `seeds`; None where the data set no bound (fewer than two tasks). `detectable` is the
    smallest difference that as many tasks, as discordant or as spread as these, would show with 80 % power at 5 %, uncorrected; None
    where that cannot be told. `test` is `mcnemar` (success, one seed), `sign_flip` (one seed), or `two_way` (several seeds): the larger
    of two p-values, `sign_flip`'s over tasks and the bootstrap's over seeds and tasks, as a claim must hold for both.
    `p_holm` is Holm-adjusted; None in the primary row, and in rows of known or withheld skills. `only_a` and `only_b` count
    the tasks only one of them solved, summed over the seeds; None for other metrics. `dropped` of the panel's tasks had a
    machine failure on either side.
    """

    env: str
    agent: str
    panel: str
    panel_sha256: str
    a: str
    b: str
    metric: str
    tasks: str
    primary: bool
    n: int
    seeds: int
    mean_a: float
    mean_b: float
    difference: float
    low: float | None
    high: float | None
    detectable: float | None
    test: str
    p_value: float
    p_holm: float | None
    only_a: int | None
    only_b: int | None
    dropped: int

    @property
    def p(self) -> float:
        """The p-value that it is judged by: corrected where it is of a family."""
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
    has a generator of its own, so that a system more or less leaves the other rows' figures as they were. Raises
    `ComparisonError` for students of other seeds than those they are compared with.
    """
    by_system = _by_system(runs)
    rows: list[ContrastRow] = []
    for a, b in PAIRS:
        sides = _paired_seeds(by_system, a, b)
        tasks = complete_tasks(sides)
        if tasks:
            rows += [contrast_row(sides, tasks, metric, resamples, seed, graded) for metric in metrics_of(graded)]
    return _adjusted(rows)


def skill_rows(
    runs: Iterable[Sequence[Episode]], withheld: Iterable[str], resamples: int, seed: int, graded: bool = False
) -> list[ContrastRow]:
    """Each student minus the base agent by the primary metric, at tasks of known and of `withheld` skills. Arguments as of `contrast_rows`.

    No row where the panel does not have both kinds of tasks.
    """
    by_system, hidden = _by_system(runs), set(withheld)
    rows: list[ContrastRow] = []
    for student in STUDENTS:
        sides = _paired_seeds(by_system, student, "base")
        skill = {e.task_id: e.skill for e in sides[0][0]} if sides else {}
        kinds: dict[str, list[str]] = {"known": [], "withheld": []}
        for task in complete_tasks(sides):
            kinds["withheld" if skill[task] in hidden else "known"].append(task)
        if all(kinds.values()):
            rows += [
                contrast_row(sides, tasks, primary_metric(graded), resamples, seed, graded, kind)
                for kind, tasks in kinds.items()
            ]
    return rows


def _by_system(runs: Iterable[Sequence[Episode]]) -> Mapping[str, Mapping[int, Sequence[Episode]]]:
    """The runs by system, then by seed."""
    found: dict[str, dict[int, Sequence[Episode]]] = {}
    for episodes in runs:
        found.setdefault(episodes[0].system, {})[episodes[0].seed] = episodes
    return found


def _paired_seeds(by_system: Mapping[str, Mapping[int, Sequence[Episode]]], a: str, b: str) -> Sides:
    """Runs to compare, a pair a seed. A system that is not trained has one run, which meets every seed of a student."""
    a_runs, b_runs = by_system.get(a, {}), by_system.get(b, {})
    if not (a in STUDENTS and b in STUDENTS):
        return [(x, y) for _, x in sorted(a_runs.items()) for _, y in sorted(b_runs.items())]
    if a_runs and b_runs and a_runs.keys() != b_runs.keys():
        seeds = " and ".join(
            f"{s} seeds {', '.join(map(str, sorted(found)))}" for s, found in ((a, a_runs), (b, b_runs))
        )
        first = next(iter(a_runs.values()))[0]
        raise ComparisonError(
            f"{first.env} {first.agent} on {first.panel}: {seeds}; students are paired by seed, so train both with the same (axes.seed)"
        )
    return [(a_runs[s], b_runs[s]) for s in sorted(a_runs.keys() & b_runs.keys())]


def complete_tasks(sides: Sides) -> list[str]:
    """Tasks that no run broke off: only they can be paired over all seeds."""
    episodes = [e for pair in sides for run in pair for e in run]
    return sorted({e.task_id for e in episodes} - {e.task_id for e in episodes if e.stop == "machine"})


def contrast_row(
    sides: Sides, chosen: Sequence[str], metric: str, resamples: int, seed: int, graded: bool, tasks: str = "all"
) -> ContrastRow:
    """The first runs minus the second over the `chosen` tasks, one at least; without Holm's correction.

    `tasks` names the choice. Raises `ComparisonError` where a run lacks one of them.
    """
    first, second = sides[0][0][0], sides[0][1][0]
    declared = (*PRIMARY, PRIMARY_PANEL, primary_metric(graded), "all")
    a, b = (_matrix([pair[side] for pair in sides], chosen, metric) for side in (0, 1))
    name = f"{first.env} {first.agent} {first.panel} {first.system} {second.system} {metric}"
    name += "" if tasks == "all" else f" {tasks}"
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    found = bootstrap(a - b, resamples, rng)
    bound = BOUNDS.get(metric, math.inf)
    only_a, only_b = discordant((a > 0).ravel().tolist(), (b > 0).ravel().tolist())
    exact = metric == "success" and len(sides) == 1
    p_value = mcnemar(only_a, only_b) if exact else sign_flip(a - b, resamples, rng)
    n = len(chosen)
    return ContrastRow(
        env=first.env,
        agent=first.agent,
        panel=first.panel,
        panel_sha256=first.panel_sha256,
        a=first.system,
        b=second.system,
        metric=metric,
        tasks=tasks,
        primary=(first.system, second.system, first.panel, metric, tasks) == declared,
        n=n,
        seeds=len(sides),
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
        difference=float((a - b).mean()),
        low=max(found.low, -bound) if math.isfinite(found.low) else None,
        high=min(found.high, bound) if math.isfinite(found.high) else None,
        detectable=detectable_success(only_a + only_b, n) if exact else detectable_mean(found.error, n),
        test="mcnemar" if exact else "sign_flip" if len(sides) == 1 else "two_way",
        p_value=p_value if len(sides) == 1 else max(p_value, found.p_value),
        p_holm=None,
        only_a=only_a if metric == "success" else None,
        only_b=only_b if metric == "success" else None,
        dropped=len(sides[0][0]) - len(complete_tasks(sides)),
    )


def _matrix(runs: Sequence[Sequence[Episode]], tasks: Sequence[str], metric: str) -> NDArray[np.float64]:
    """Figures as seeds x tasks, in the order of `tasks`."""
    tables = [{e.task_id: value(e, metric) for e in run} for run in runs]
    for run, table in zip(runs, tables, strict=True):
        if lacking := [task for task in tasks if task not in table]:
            name = f"{run[0].env} {run[0].agent} {label(run[0].system, run[0].seed)} on {run[0].panel}"
            raise ComparisonError(
                f"{name}: {len(lacking)} tasks not played that it is compared on (first: {lacking[0]}); evaluate again"
            )
    return np.array([[table[t] for t in tasks] for table in tables], dtype=np.float64)


def _adjusted(rows: Sequence[ContrastRow]) -> list[ContrastRow]:
    adjusted = iter(holm([r.p_value for r in rows if not r.primary]))
    return [r if r.primary else dataclasses.replace(r, p_holm=next(adjusted)) for r in rows]
