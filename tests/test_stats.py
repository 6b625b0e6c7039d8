"""Statistics against values worked out by hand, and their edge cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import nct
from scipy.stats import t as student_t

from stages.stats.holm import holm
from stages.stats.intervals import wilson
from stages.stats.paired import Differences, bootstrap, discordant, mcnemar, sign_flip
from stages.stats.power import detectable_mean, detectable_success, mcnemar_power


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
    low, high, error, _ = bootstrap(differences, 4000, rng())
    assert (low, high) == pytest.approx((0.1 - 1.96 * 0.015, 0.1 + 1.96 * 0.015), abs=0.004)
    assert error == pytest.approx(0.015, rel=0.05)


def test_bootstrap_is_a_function_of_its_seed() -> None:
    differences = np.array([[1.0, 0.0, -1.0, 1.0, 0.0]])
    assert bootstrap(differences, 500, rng()) == bootstrap(differences, 500, rng())


def test_one_seed_is_the_percentile_bootstrap_over_tasks() -> None:
    tasks = np.array([1.0, 0.0, -1.0, 1.0, 0.0, 0.0, 1.0])
    draws = rng().multinomial(7, [1 / 7] * 7, size=300)
    means = [np.repeat(tasks, counts).mean() for counts in draws]
    found = bootstrap(tasks[None, :], 300, rng())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), rel=1e-12)
    theirs = scipy_bootstrap((tasks,), np.mean, method="percentile", n_resamples=5000, rng=rng()).confidence_interval
    assert bootstrap(tasks[None, :], 5000, rng())[:2] == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_several_seeds_are_drawn_as_rows_and_tasks_as_columns_with_the_seeds_stretched() -> None:
    table = np.random.default_rng(3).integers(-1, 2, (3, 8)).astype(float)
    draw = rng()
    tasks, seeds = draw.multinomial(8, [1 / 8] * 8, size=200), draw.multinomial(3, [1 / 3] * 3, size=200)
    means = []
    for columns, rows in zip(tasks, seeds, strict=True):
        drawn = np.repeat(np.repeat(table, rows, axis=0), columns, axis=1).mean()
        by_seed = np.repeat(table, rows, axis=0).mean() - table.mean()
        means.append(drawn + (3 / 2 - 1) * by_seed)
    found = bootstrap(table, 200, rng())
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert found.error == pytest.approx(np.std(means))
    tail = min(sum(round(m, 9) <= 0 for m in means), sum(round(m, 9) >= 0 for m in means))
    assert found.p_value == pytest.approx(2 * (tail + 1) / 201)


def test_seeds_that_disagree_widen_the_interval() -> None:
    tasks = np.tile([1.0, 0.0], 50)
    agree = np.stack([tasks, tasks])
    disagree = np.stack([np.ones(100), np.zeros(100)])  # the same mean; all of the spread lies between the seeds
    width = [high - low for low, high, *_ in (bootstrap(d, 2000, rng()) for d in (agree, disagree))]
    assert width[0] < 0.25
    assert width[1] == pytest.approx(2.0)  # twice what was seen, as two seeds show half the variance


def test_equal_seeds_are_as_good_as_one() -> None:
    tasks = np.tile([1.0, 0.0, 0.0, -1.0], 25)
    one = bootstrap(tasks[None, :], 4000, rng())
    assert bootstrap(np.stack([tasks] * 3), 4000, rng())[:2] == pytest.approx(one[:2], abs=0.02)


def trained(draw: np.random.Generator, seeds: int, spread: float, gain: float) -> Differences:
    """Outcomes of `seeds` pairs of students on 60 tasks, as logits: a task's difficulty, what each system makes of it, each training's luck."""
    difficulty = draw.normal(0, 2, 60)
    solved = [
        draw.random((seeds, 60)) < expit(difficulty + draw.normal(0, 1, 60) + draw.normal(0, spread, (seeds, 1)) + more)
        for more in (gain, 0.0)
    ]
    return np.asarray(solved[0], dtype=np.float64) - solved[1]


@pytest.mark.parametrize(("spread", "least"), [(0.0, 0.94), (0.4, 0.93), (0.8, 0.89)])
def test_intervals_over_three_seeds_cover_the_difference_between_new_trainings(spread: float, least: float) -> None:
    draw = np.random.default_rng(17)
    difference = np.mean([trained(draw, 50, spread, 0.8).mean() for _ in range(1000)])
    found = [bootstrap(trained(draw, 3, spread, 0.8), 300, draw) for _ in range(400)]
    covered = np.mean([low <= difference <= high for low, high, *_ in found])
    assert (
        covered >= least
    )  # 95 % but for two standard errors of 0.01, and what few seeds that disagree much still lack


def test_two_ways_hold_their_level_where_tasks_alone_do_not() -> None:
    draw = np.random.default_rng(23)
    tables = [trained(draw, 3, 0.8, 0.0) for _ in range(300)]
    by_tasks = [sign_flip(table, 199, draw) for table in tables]
    both = [max(p, bootstrap(table, 300, draw).p_value) for p, table in zip(by_tasks, tables, strict=True)]
    assert np.mean(np.array(by_tasks) <= 0.05) > 0.2
    assert np.mean(np.array(both) <= 0.05) < 0.1


def test_too_few_tasks_give_no_bound_and_no_evidence() -> None:
    for tasks in (0, 1):
        differences = np.ones((1, tasks))
        assert bootstrap(differences, 100, rng()) == (-math.inf, math.inf, math.inf, 1.0)
        assert sign_flip(differences, 100, rng()) == 1.0


@pytest.mark.parametrize("shape", [(5,), (0, 5)])
def test_differences_must_be_seeds_by_tasks(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected seeds x tasks"):
        bootstrap(np.zeros(shape), 100, rng())
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


def test_mcnemars_power_is_the_share_of_panels_that_it_rejects() -> None:
    draw = np.random.default_rng(4)
    only_a, only_b, _ = draw.multinomial(60, [0.25, 0.05, 0.7], size=4000).T
    rejected = np.mean([mcnemar(int(a), int(b)) <= 0.05 for a, b in zip(only_a, only_b, strict=True)])
    assert mcnemar_power(0.2, 0.3, 60) == pytest.approx(rejected, abs=0.02)
    assert mcnemar_power(1.0, 1.0, 5) == 0.0  # 2 / 2**5 is more than 0.05
    assert mcnemar_power(1.0, 1.0, 6) == pytest.approx(1.0)


@pytest.mark.parametrize(("discordant", "n"), [(17, 60), (3, 60), (0, 60), (40, 134)])
def test_the_detectable_difference_has_a_power_of_80_percent(discordant: int, n: int) -> None:
    found = detectable_success(discordant, n)
    assert found is not None
    assert mcnemar_power(found, max(found, discordant / n), n) == pytest.approx(0.8)
    normal = (1.96 * math.sqrt(s := max(found, discordant / n)) + 0.8416 * math.sqrt(s - found**2)) / math.sqrt(n)
    assert normal - 0.005 < found < normal + 0.03  # Connor's formula, which the exact test does not quite reach


def test_more_tasks_show_smaller_differences_and_too_few_none() -> None:
    few, many = detectable_success(15, 60), detectable_success(150, 600)
    assert few is not None and many is not None and many < few / 2
    assert detectable_success(5, 5) is None is detectable_success(0, 0)
    assert detectable_mean(0.0, 60) is None is detectable_mean(math.inf, 1)
    thirds = bootstrap(np.full((1, 60), 100 / 3), 500, rng())
    assert detectable_mean(thirds.error, 60) is None


@pytest.mark.parametrize("tasks", [12, 60, 134])
def test_the_detectable_mean_has_a_power_of_80_percent_in_the_paired_t_test(tasks: int) -> None:
    found = detectable_mean(0.5, tasks)
    assert found is not None
    power = nct.sf(student_t.ppf(0.975, tasks - 1), tasks - 1, found / 0.5)
    assert power == pytest.approx(0.8, abs=0.01)
