"""Statistics against values worked out by hand, and their edge cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stages.stats.holm import holm
from stages.stats.intervals import wilson
from stages.stats.paired import bootstrap_interval, discordant, mcnemar, sign_flip


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.277533),  # z^2 / (n + z^2), with z^2 = 3.841459
        (10, 10, 0.722467, 1.0),  # its mirror image
        (5, 10, 0.236593, 0.763407),  # 1/2 -/+ z / (2 sqrt(n + z^2))
        (
            104,
            134,
            0.698413,
            0.838436,
        ),  # (0.768424 -/+ 0.070011): the paper's 77.6 % base agent, seven points either way
    ],
)
def test_wilson_matches_its_formula(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=1e-6)


def test_wilson_formula_written_out() -> None:
    p, n, z = 9 / 12, 12, 1.959963984540054
    middle, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert wilson(9, 12) == pytest.approx(((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)))


def test_wilson_edges() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    for successes, n in ((3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="expected 0 <= successes <= n"):
            wilson(successes, n)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),
        (1, 1, 1.0),
        (5, 0, 2 / 2**5),
        (0, 5, 2 / 2**5),
        (8, 2, 2 * (1 + 10 + 45) / 2**10),
        (21, 9, 2 * sum(math.comb(30, k) for k in range(10)) / 2**30),
    ],
)
def test_mcnemar_is_the_exact_binomial_tail_doubled(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(p)


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="discordant counts -1 and 2"):
        mcnemar(-1, 2)


def test_discordant_counts_each_side() -> None:
    assert discordant([True, True, False, False], [True, False, True, False]) == (1, 1)
    assert discordant([True, True], [False, False]) == (2, 0)
    with pytest.raises(ValueError, match="shorter"):
        discordant([True, True], [True])


def test_holm_steps_down_and_keeps_the_order_given() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])  # 3 x 0.01, 2 x 0.03, max(0.06, 0.04)
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"1\.5"):
        holm([0.2, 1.5])


def test_bootstrap_interval_agrees_with_theory_on_many_tasks() -> None:
    differences = np.repeat([1.0, 0.0], [40, 360])[None, :]  # mean 0.1, standard error sqrt(0.09 / 400) = 0.015
    low, high = bootstrap_interval(differences, 4000, rng())
    assert (low, high) == pytest.approx((0.1 - 1.96 * 0.015, 0.1 + 1.96 * 0.015), abs=0.004)


def test_bootstrap_is_a_function_of_its_seed() -> None:
    differences = np.array([[1.0, 0.0, -1.0, 1.0, 0.0]])
    assert bootstrap_interval(differences, 500, rng()) == bootstrap_interval(differences, 500, rng())


def test_seeds_that_disagree_widen_the_interval() -> None:
    tasks = np.tile([1.0, 0.0], 50)
    agree = np.stack([tasks, tasks])
    disagree = np.stack([np.ones(100), np.zeros(100)])  # the same mean; all of the spread lies between the seeds
    width = [high - low for low, high in (bootstrap_interval(d, 2000, rng()) for d in (agree, disagree))]
    assert width[0] < 0.25
    assert width[1] == pytest.approx(1.0)


def test_equal_seeds_are_as_good_as_one() -> None:
    tasks = np.tile([1.0, 0.0, 0.0, -1.0], 25)
    one = bootstrap_interval(tasks[None, :], 4000, rng())
    assert bootstrap_interval(np.stack([tasks] * 3), 4000, rng()) == pytest.approx(one, abs=0.02)


def test_too_few_tasks_give_no_bound_and_no_evidence() -> None:
    for tasks in (0, 1):
        differences = np.ones((1, tasks))
        assert bootstrap_interval(differences, 100, rng()) == (-math.inf, math.inf)
        assert sign_flip(differences, 100, rng()) == 1.0


@pytest.mark.parametrize("shape", [(5,), (0, 5)])
def test_differences_must_be_seeds_by_tasks(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected seeds x tasks"):
        bootstrap_interval(np.zeros(shape), 100, rng())
    with pytest.raises(ValueError, match="expected seeds x tasks"):
        sign_flip(np.zeros(shape), 100, rng())


def test_sign_flip_is_exact_on_few_tasks() -> None:
    # Five equal differences: 2 of the 32 sign patterns are as far out, and McNemar sees the same five discordant tasks.
    assert sign_flip(np.ones((1, 5)), 10_000, rng()) == pytest.approx(2 / 32) == pytest.approx(mcnemar(5, 0))
    assert sign_flip(np.array([[3.0, -3.0]]), 10_000, rng()) == 1.0
    assert sign_flip(np.zeros((1, 4)), 10_000, rng()) == 1.0


def test_sign_flip_takes_a_task_as_one_cluster() -> None:
    one_seed = np.ones((1, 6))
    assert sign_flip(np.repeat(one_seed, 4, axis=0), 10_000, rng()) == pytest.approx(2 / 2**6)


def test_sign_flip_holds_its_level() -> None:
    draw = np.random.default_rng(8)
    p_values = [sign_flip(draw.normal(size=(1, 12)), 199, rng()) for _ in range(200)]
    assert (
        0.01 <= np.mean([p <= 0.05 for p in p_values]) <= 0.09
    )  # 0.05, two binomial standard errors of 0.015 and more
