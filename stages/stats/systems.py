"""What one system did on one panel, as a row of `metrics/systems.json`; and the check that rows may be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from stages.core import arms
from stages.core.process import Fault
from stages.core.records import Episode
from stages.stats.intervals import wilson

STUDENTS = arms.STUDENTS
UNHINTED = (
    "base",
    "oracle",
    *(name for name, arm in arms.ARMS.items() if arm.teacher is None),
)  # what no written bank is behind


class ComparisonError(Fault, ValueError):
    """Episodes that cannot stand in one table: says which system, and what differs."""


@dataclass(frozen=True)
class Panel:
    """A frozen panel: its hash and the ids of its tasks."""

    sha256: str
    tasks: frozenset[str]


class Share(TypedDict):
    """Successes among some tasks; the Wilson interval; mean reward. Without a task, `success` and `reward` are None."""

    n: int
    success: float | None
    reward: float | None
    success_low: float
    success_high: float


Overlap = TypedDict("Overlap", {"panel": str, "with": str, "tasks": int, "shared": dict[str, int]})
"""How many of a panel's tasks share something with another panel, by what they share."""


@dataclass(frozen=True)
class Study:
    """Settings that stand beside every figure.

    `withheld` are the skills the base model's warm-up left out, `strength` is `full` (never shown) or
    `hinted_only`; both empty without a warm-up. `panel_source` begins with `generated` when the tasks are no benchmark's.
    `graded` rewards lie between 0 and 1 and are reported as a score. `hint_basis` is what the hint writer saw of a failure, `category_basis` is `oracle` or `inferred` (see `agent.category`), `shots`
    the worked examples in the prompts of all but students. `max_turns` and `k` are the turns of an episode and the hints shown in one, at most. `overlaps` are
    the panels' (data/panels/<env>/overlaps.json), `left_out` the rows of the official files that count for nothing, by reason (left_out.json there).
    `write_tokens` are what a model wrote the hints with (whole prompts and answers, in all), `write_dollars` its price, as far as one is known.
    """

    withheld: tuple[str, ...] = ()
    strength: str = ""
    panel_source: str = ""
    graded: bool = False
    hint_basis: str = ""
    category_basis: str = "oracle"
    shots: int = 0
    max_turns: int = 0
    k: int = 0
    overlaps: Sequence[Overlap] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    write_tokens: int = 0
    write_dollars: float = 0.0


@dataclass(frozen=True)
class SystemRow:
    """One system, seed and panel. Rates are fractions from 0 to 1; tokens and steps are means over the n episodes.

    `tokens_per_episode` is billed: every turn's whole prompt, the replies, and the choice of hints. The computed count
    deducts the prompt tokens that prefix reuse saved. `tokens` has the shares of acting and of the choice of hints in it, and beside it `write`: what the
    hints of the system were written with, once, spread over the n episodes. `cost` is everything, `write` too, by successes. `score` is mean reward x 100, where rewards are graded. `invalid_rate` is
    refused steps / steps, `invalid_episodes` the share of episodes with one, `unparsable_rate` turns without a readable action / turns, `elided_episodes`
    the share of episodes whose prompts outgrew the window, so that early turns were left out. `category_agreement` is the share of episodes whose
    hints and examples were chosen by the task's own category (1 where `category_basis` is oracle). Machine failures are counted in
    `machine_failures` and nowhere else: n, rates and tokens are without them.
    """

    env: str
    agent: str
    system: str
    seed: int
    panel: str
    panel_sha256: str
    panel_source: str
    n: int
    success: float
    success_low: float
    success_high: float
    score: float | None
    steps: float
    tokens_per_episode: float
    computed_tokens_per_episode: float
    tokens: dict[str, float]
    cost: dict[str, float | None]
    invalid_rate: float
    invalid_episodes: float
    unparsable_rate: float
    elided_episodes: float
    category_basis: str
    category_agreement: float
    shots: int
    by_category: dict[str, Share]
    skills: dict[str, Share]
    withheld: list[str]
    strength: str
    stops: dict[str, int]
    machine_failures: int
    model: str
    engine: str
    git_commit: str


def usable(episodes: Iterable[Episode]) -> list[Episode]:
    """The episodes that are evidence about the agent: all but those the machine broke off."""
    return [e for e in episodes if e.stop != "machine"]


def label(system: str, seed: int) -> str:
    """A system's short name, the seed named where training depends on it: `rag`, `distilled_s0`."""
    return f"{system}_s{seed}" if system in STUDENTS else system


def billed(episode: Episode) -> int:
    """Tokens an API would bill: every turn's whole prompt, the replies, and what the choice of hints cost."""
    return episode.prompt_tokens + episode.reply_tokens + episode.retrieve_tokens


def computed(episode: Episode) -> int:
    """Tokens the engine ran: prompt tokens it really encoded, the replies, and the choice of hints (taken as whole)."""
    return episode.computed_tokens + episode.retrieve_tokens


def share(episodes: Sequence[Episode]) -> Share:
    """Success among `episodes`, with its Wilson interval."""
    n, won = len(episodes), sum(e.success for e in episodes)
    low, high = wilson(won, n)
    reward = sum(e.reward for e in episodes) / n if n else None
    return {"n": n, "success": won / n if n else None, "reward": reward, "success_low": low, "success_high": high}


def by_skill(episodes: Sequence[Episode], withheld: Iterable[str]) -> dict[str, Share]:
    """Success where the warm-up showed the skill that the task calls for, and where it withheld it."""
    hidden = set(withheld)
    return {
        "known": share([e for e in episodes if e.skill not in hidden]),
        "withheld": share([e for e in episodes if e.skill in hidden]),
    }


def check_panel(runs: Mapping[str, Sequence[Episode]], panel: Panel) -> None:
    """Raise `ComparisonError` unless every run played this very panel, each of its tasks exactly once.

    A run is all episodes of one system (and seed), those with a machine failure included; `runs` are keyed by a name
    to show in the error.
    """
    for name, episodes in runs.items():
        other = sorted({e.panel_sha256 for e in episodes} - {panel.sha256})
        if other:
            raise ComparisonError(f"{name}: played panel {_some(other)}, not {panel.sha256}; evaluate again")
        counts = Counter(e.task_id for e in episodes)
        faults = {
            "never": panel.tasks - set(counts),
            "more than once": {task for task, count in counts.items() if count > 1},
            "though no task of the panel": set(counts) - panel.tasks,
        }
        wrong = [f"{len(tasks)} {how} ({_some(sorted(tasks))})" for how, tasks in faults.items() if tasks]
        if wrong:
            raise ComparisonError(f"{name}: tasks played {'; '.join(wrong)}, not each exactly once; evaluate again")


def system_row(episodes: Sequence[Episode], study: Study, git_commit: str) -> SystemRow:
    """The row of one run. Raises `ComparisonError` when no episode is usable, or several systems are mixed."""
    kinds = {(e.env, e.agent, e.system, e.seed, e.panel, e.panel_sha256) for e in episodes}
    if len(kinds) != 1:
        raise ComparisonError(f"episodes of one system, seed and panel expected, found {_some(sorted(kinds))}")
    env, agent, system, seed, panel, digest = kinds.pop()
    played = usable(episodes)
    if not played:
        reason = episodes[0].machine_failure or "no reason recorded"
        raise ComparisonError(
            f"{env} {agent} {label(system, seed)} on {panel}: all {len(episodes)} episodes are machine failures "
            f"(first: {reason}); mend that and evaluate again"
        )
    n, won = len(played), sum(e.success for e in played)
    low, high = wilson(won, n)
    steps, turns = sum(e.steps for e in played), sum(len(e.turns) for e in played)
    written = 0 if system in UNHINTED else study.write_tokens
    tokens, ran, retrieve = (sum(map(count, played)) for count in (billed, computed, lambda e: e.retrieve_tokens))
    return SystemRow(
        env=env,
        agent=agent,
        system=system,
        seed=seed,
        panel=panel,
        panel_sha256=digest,
        panel_source=study.panel_source,
        n=n,
        success=won / n,
        success_low=low,
        success_high=high,
        score=100 * sum(e.reward for e in played) / n if study.graded else None,
        steps=steps / n,
        tokens_per_episode=tokens / n,
        computed_tokens_per_episode=ran / n,
        tokens={"act": (tokens - retrieve) / n, "retrieve": retrieve / n, "write": written / n},
        cost={
            "tokens_per_success": (tokens + written) / won if won else None,
            "computed_tokens_per_success": (ran + written) / won if won else None,
        },
        invalid_rate=sum(e.refused for e in played) / steps if steps else 0.0,
        invalid_episodes=sum(e.refused > 0 for e in played) / n,
        unparsable_rate=sum(not t.action for e in played for t in e.turns) / turns if turns else 0.0,
        elided_episodes=sum(any(t.elided for t in e.turns) for e in played) / n,
        category_basis=study.category_basis,
        category_agreement=sum(e.category_used == e.category for e in played) / n,
        shots=0 if system in STUDENTS else study.shots,
        by_category={c: share([e for e in played if e.category == c]) for c in sorted({e.category for e in played})},
        skills=by_skill(played, study.withheld),
        withheld=sorted(study.withheld),
        strength=study.strength,
        stops=dict(sorted(Counter(e.stop for e in played).items())),
        machine_failures=len(episodes) - n,
        model=", ".join(sorted({e.model for e in played})),
        engine=", ".join(sorted({e.engine for e in played})),
        git_commit=git_commit,
    )


def _some(values: Iterable[object], most: int = 5) -> str:
    listed = [str(v) for v in values]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
