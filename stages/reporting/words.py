"""Figures and names as a reader sees them. A missing figure is a dash."""

from __future__ import annotations

from collections.abc import Iterable

from stages import agents
from stages.core import plugins
from stages.stats.contrasts import ContrastRow
from stages.stats.systems import Share

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
SYSTEMS = {
    "base": "base agent",
    "rag": "with hints (rag)",
    "constant": "constant hints",
    "random": "random hints",
    "rag_wrong": "hints of other categories",
    "oracle": "hand-written hints (oracle)",
    "sft": "own successes (sft)",
    "distilled": "distilled",
    "distilled_random": "distilled, random hints",
    "on_policy": "on-policy distilled",
    "hinted": "taught and played with hints",
    "sft_rag": "sft, with hints",
    "distilled_rag": "distilled, with hints",
    "distilled_random_rag": "distilled random, with hints",
    "on_policy_rag": "on-policy, with hints",
}
"""Systems by their names, in the report's order."""
TEACHERS = {"rag": "teacher, with hints", "random": "teacher, with random hints"}
MATCHED = {"lessons": "number of lessons", "tokens": "number of trained tokens"}
STRENGTHS = {
    "full": "never shown in the warm-up",
    "hinted_only": "shown in the warm-up only together with their hint, which is weaker evidence",
}
METRICS = {"success": "success", "score": "score", "tokens": "tokens an episode"}
TESTS = {
    "mcnemar": "exact McNemar",
    "sign_flip": "sign-flip permutation",
    "two_way": "sign-flip permutation and bootstrap over seeds and tasks",
}


def env(name: str) -> str:
    """An environment's name as people write it; its own where it is no longer there."""
    return plugins.environment(name).title if name in plugins.names("envs") else name


def agent(name: str) -> str:
    """An agent's name as people write it; its own where it is no longer there."""
    return agents.spec(name).title if name in plugins.names("agents") else name


def model(name: str) -> str:
    """A model's name without the digests that tell its weights apart, as listed in a row: `smollm2-135m-instruct`."""
    return listed(dict.fromkeys(one.partition("@")[0] for one in name.split(", ")))


def percent(fraction: float | None) -> str:
    """A fraction in per cent, one decimal."""
    return DASH if fraction is None else f"{100 * fraction:.1f} %"


def count(number: float | None) -> str:
    """A whole number with thousands apart."""
    return DASH if number is None else f"{number:,.0f}"


def whole_interval(low: float, high: float) -> str:
    """An interval of fractions, in whole per cent without the unit."""
    return f"{100 * low:.0f}{DASH}{100 * high:.0f}"


def share(found: Share | None) -> str:
    """Successes of tasks, and their rate: `9/12 (75 %)`."""
    if found is None or found["success"] is None:
        return DASH
    return f"{fraction(found)} ({100 * found['success']:.0f} %)"


def fraction(found: Share | None) -> str:
    """Successes of tasks: `9/12`."""
    if found is None or found["success"] is None:
        return DASH
    return f"{round(found['success'] * found['n'])}/{found['n']}"


def reward(found: Share | None) -> str:
    """Mean reward x 100."""
    return DASH if found is None or found["reward"] is None else f"{100 * found['reward']:.1f}"


def p_value(p: float | None) -> str:
    """A p-value to three decimals; smaller ones as a bound."""
    if p is None:
        return DASH
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed(number: float | None, metric: str) -> str:
    """A difference in the unit readers think in: percentage points of success, score points, tokens."""
    if number is None:
        return DASH
    shown, digits = (100 * number if metric == "success" else number), (0 if metric == "tokens" else 1)
    return f"{shown:+,.{digits}f}".replace("-", MINUS)


def mean(number: float, metric: str) -> str:
    """A mean in the unit of its metric: per cent of success, score points, tokens."""
    return percent(number) if metric == "success" else f"{number:.1f}" if metric == "score" else count(number)


def interval(row: ContrastRow) -> str:
    """A contrast's 95 % interval in the unit of `signed`."""
    return f"{signed(row.low, row.metric)} to {signed(row.high, row.metric)}"


def difference(row: ContrastRow) -> str:
    """A contrast's difference with its interval; where all tasks came out alike, a resample says nothing, and that is said."""
    if row.low == row.high == 0:
        return f"{signed(row.difference, row.metric)} (no task differs)"
    return f"{signed(row.difference, row.metric)} ({interval(row)})"


def numbers(found: Iterable[int]) -> str:
    """The different numbers, in a sentence: `12 and 9`."""
    return listed(dict.fromkeys(map(str, found)))


def listed(names: Iterable[str]) -> str:
    """Names in a sentence: `cool and heat`."""
    known = list(names)
    return " and ".join([", ".join(known[:-1]), known[-1]] if len(known) > 1 else known)
