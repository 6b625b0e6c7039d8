"""How small a difference a panel could show: beside a contrast that shows none, it says whether one was to be expected."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq  # type: ignore[import-untyped]
from scipy.stats import binom, t  # type: ignore[import-untyped]

ALPHA = 0.05  # two-sided
POWER = 0.8
ROUNDING = 1e-9  # of a standard error, in any unit: differences that are all equal leave this at most


def mcnemar_power(difference: float, discordant: float, n: int) -> float:
    """Chance that the exact McNemar test of `n` tasks gives p <= 0.05.

    `discordant` is the share of tasks that only one side solves, `difference` (0 to `discordant`) the share that only
    the first solves less the one that only the second solves. The number of discordant tasks is binomial, and so are
    the first's wins among them; the test rejects where the smaller side's tail is at most 0.025.

    Source: R. J. Connor, Biometrics 43 (1987) 207-211, with exact in place of normal tails.
    """
    pairs = np.arange(n + 1)
    most = binom.ppf(ALPHA / 2, pairs, 0.5)
    most -= binom.cdf(most, pairs, 0.5) > ALPHA / 2  # the largest smaller side that still rejects; -1 where none does
    wins = (discordant + difference) / (2 * discordant)
    rejects = binom.cdf(most, pairs, wins) + binom.sf(pairs - most - 1, pairs, wins)
    return float(binom.pmf(pairs, n, discordant) @ rejects)


def detectable_success(discordant: int, n: int) -> float | None:
    """The smallest difference of success (a fraction) that the exact McNemar test shows with 80 % power.

    `discordant` of the `n` tasks were solved by one side alone; that share is taken to stay as it is, or to be all of
    the difference where it is smaller. None where no difference is large enough (fewer than six tasks).
    """

    def lacks(difference: float) -> float:
        return mcnemar_power(difference, max(discordant / n, difference), n) - POWER

    return float(brentq(lacks, 1e-9, 1.0)) if n and lacks(1.0) > 0 else None


def detectable_mean(error: float, tasks: int) -> float | None:
    """The smallest mean difference, in the unit of its standard `error`, that a two-sided test at 5 % shows with 80 % power.

    (t_0.975 + t_0.8) x error, with tasks - 1 degrees of freedom. None with fewer than two tasks, or where nothing varied.

    Source: H. S. Bloom, Evaluation Review 19 (1995) 547-556.
    """
    if tasks < 2 or error < ROUNDING:
        return None
    return float(t.ppf(1 - ALPHA / 2, tasks - 1) + t.ppf(POWER, tasks - 1)) * error
