"""Two systems on the same tasks: what differs, by how much, and how surprising that is.

Differences come as an array of seeds x tasks (a minus b); a pair without training seeds is one row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, permutation_test  # type: ignore[import-untyped]

from stages.stats.intervals import Interval

Differences = NDArray[np.float64]


def discordant(a: Sequence[bool], b: Sequence[bool]) -> tuple[int, int]:
    """Tasks only `a` solved, and tasks only `b` solved. Raises `ValueError` unless both list the same tasks."""
    pairs = list(zip(a, b, strict=True))
    return sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar p-value from the discordant counts.

    Under equal success rates each discordant task falls to either side with chance 1/2, so only_a is binomial
    (only_a + only_b, 1/2) and p = min(1, 2 P(X <= min(only_a, only_b))). Concordant tasks carry no information.
    No discordant task gives 1.

    Source: Q. McNemar, Psychometrika 12 (1947) 153-157, in its exact binomial form.
    """
    if only_a < 0 or only_b < 0:
        raise ValueError(f"discordant counts {only_a} and {only_b}: expected none below 0")
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def bootstrap_interval(
    differences: Differences, resamples: int, rng: np.random.Generator, confidence: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of the mean difference, in the unit of the differences.

    Each resample draws tasks with replacement and, when there are several seeds, seeds with replacement too; a task
    drawn twice counts twice in every seed, since all seeds play the same tasks. The draws are kept as counts, and the
    mean is w_seed D w_task / (seeds tasks). Few seeds still leave the interval too narrow: two or three say little
    about training. Fewer than two tasks leave (-inf, inf); equal differences everywhere an interval of no width.

    Source: B. Efron, Annals of Statistics 7 (1979) 1-26; pairing and clusters in evaluations: arXiv 2411.00640.
    """
    seeds, tasks = _shape(differences)
    if tasks < 2:
        return Interval(-np.inf, np.inf)
    task_counts = rng.multinomial(tasks, np.full(tasks, 1 / tasks), size=resamples)
    by_task: Differences
    if seeds == 1:
        by_task = np.asarray(differences[0])
    else:
        by_task = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) @ differences / seeds
    means = (task_counts * by_task).sum(axis=1) / tasks
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def sign_flip(differences: Differences, resamples: int, rng: np.random.Generator) -> float:
    """Two-sided permutation p-value of the mean difference.

    If the two systems do not differ, either could have produced either result of a task, so the task's difference (its
    mean over the seeds: a task is one cluster) may change its sign. p is twice the smaller tail of the mean over such
    changes: over all of them when there are at most `resamples`, else over that many drawn ones, the observed one
    counted in. Fewer than two tasks, or no difference at all, give 1.

    Source: R. A. Fisher, The Design of Experiments (1935), section 21.
    """
    _, tasks = _shape(differences)
    by_task = differences.mean(axis=0)
    if tasks < 2 or not by_task.any():
        return 1.0
    found = permutation_test(
        (by_task,), np.mean, permutation_type="samples", vectorized=True, n_resamples=resamples, batch=1000, rng=rng
    )
    return float(found.pvalue)


def _shape(differences: Differences) -> tuple[int, int]:
    if differences.ndim != 2 or differences.shape[0] == 0:
        raise ValueError(f"differences of shape {differences.shape}: expected seeds x tasks, with a seed at least")
    return differences.shape[0], differences.shape[1]
