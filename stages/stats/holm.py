"""Correction of p-values for the number of comparisons."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given.

    Sorted upwards, the i-th of m (from 0) becomes max over j <= i of (m - j) p_j, at most 1. Rejecting what stays below
    alpha bounds the chance of any false rejection in the family by alpha, whatever the dependence between the tests.
    Raises `ValueError` on a value outside 0 to 1.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    outside = [p for p in p_values if not 0.0 <= p <= 1.0]
    if outside:
        raise ValueError(f"p-values outside 0 to 1: {outside}")
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
