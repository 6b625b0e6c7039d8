"""Interval of a share."""

from __future__ import annotations

from typing import NamedTuple

from scipy.stats import binomtest  # type: ignore[import-untyped]


class Interval(NamedTuple):
    """Lower and upper end, in the unit of what they enclose; infinite where the data say nothing."""

    low: float
    high: float


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a binomial share, a fraction from 0 to 1.

    With p = successes / n and z the normal quantile of `confidence`:
    (p + z^2/2n -/+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n).
    It keeps its coverage at shares near 0 or 1 and at small n, where the normal-theory interval is too narrow.
    No task at all leaves (0, 1). Raises `ValueError` unless 0 <= successes <= n.

    Source: E. B. Wilson, JASA 22 (1927) 209-212; for evaluations of models: arXiv 2503.01747.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} tasks: expected 0 <= successes <= n")
    if n == 0:
        return Interval(0.0, 1.0)
    found = binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(float(found.low), float(found.high))
