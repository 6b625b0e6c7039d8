"""What belongs together in the report: all figures of one environment and agent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stages.reporting import words
from stages.stats.contrasts import ContrastRow
from stages.stats.funnel import FunnelRow
from stages.stats.systems import SystemRow, label

ORDER = tuple(words.SYSTEMS)


@dataclass(frozen=True)
class Cell:
    """One environment and agent: systems and contrasts of the reported panel, of the other panels, and the funnel."""

    env: str
    agent: str
    systems: Sequence[SystemRow]
    contrasts: Sequence[ContrastRow]
    other_systems: Sequence[SystemRow]
    other_contrasts: Sequence[ContrastRow]
    funnel: FunnelRow | None

    @property
    def key(self) -> str:
        """Name for ids and files."""
        return f"{self.env}_{self.agent}"

    @property
    def title(self) -> str:
        """Name for a heading."""
        return f"{words.ENVS.get(self.env, self.env)}, {words.AGENTS.get(self.agent, self.agent)}"

    @property
    def categories(self) -> list[str]:
        """Task categories in the report's order: known ones, then withheld ones."""
        hidden = set(self.systems[0].withheld)
        return sorted({c for row in self.systems for c in row.by_category}, key=lambda c: (c in hidden, c))

    def name(self, row: SystemRow) -> str:
        """A system's name, its seed told where there are several."""
        several = len({r.seed for r in self.systems if r.system == row.system}) > 1
        return words.SYSTEMS.get(row.system, row.system) + (f", seed {row.seed}" if several else "")

    def contrast(self, a: str, b: str, metric: str) -> ContrastRow | None:
        """The contrast of two systems on the reported panel, if it was made."""
        return next((r for r in self.contrasts if (r.a, r.b, r.metric) == (a, b, metric)), None)


def cells(
    systems: Iterable[SystemRow],
    other_systems: Iterable[SystemRow],
    contrasts: Iterable[ContrastRow],
    other_contrasts: Iterable[ContrastRow],
    funnel: Iterable[FunnelRow],
) -> list[Cell]:
    """Group rows by environment and agent, in the order met; systems in the report's order."""
    ranked = sorted(systems, key=_rank)
    others = sorted(other_systems, key=lambda row: (row.panel, *_rank(row)))
    pairs, other_pairs, ways = list(contrasts), list(other_contrasts), list(funnel)
    return [
        Cell(
            env=env,
            agent=agent,
            systems=[r for r in ranked if (r.env, r.agent) == (env, agent)],
            contrasts=[r for r in pairs if (r.env, r.agent) == (env, agent)],
            other_systems=[r for r in others if (r.env, r.agent) == (env, agent)],
            other_contrasts=[r for r in other_pairs if (r.env, r.agent) == (env, agent)],
            funnel=next((r for r in ways if (r.env, r.agent) == (env, agent)), None),
        )
        for env, agent in dict.fromkeys((r.env, r.agent) for r in ranked)
    ]


def findings(cell: Cell) -> list[str]:
    """What was found, as sentences; the declared primary contrast first."""
    said = [
        _sentence(r) for r in sorted(cell.contrasts, key=lambda r: not r.primary) if r.metric != "tokens" and _told(r)
    ]
    tokens = cell.contrast("distilled", "rag", "tokens")
    if tokens:
        more = "fewer" if tokens.difference < 0 else "more"
        said.append(
            f"The distilled student used {words.count(abs(tokens.difference))} {more} billed tokens an episode than "
            f"the agent with hints ({words.count(tokens.mean_a)} against {words.count(tokens.mean_b)})."
        )
    even = break_even(cell)
    if even is not None:
        said.append(
            "Its extra cost over hints (the teacher's episodes and the trained lessons, a trained token counted as "
            f"one) is paid back after {words.count(even)} episodes."
        )
    return said


def break_even(cell: Cell) -> float | None:
    """Episodes after which the distilled student has cost fewer tokens than the agent with hints, everything counted.

    (teacher's tokens + lesson tokens x epochs) / (tokens an episode saved). Rollouts and hint writing are needed for
    both. None when nothing is saved. Source: arXiv 2407.01502, which asks for the break-even point beside accuracy.
    """
    tokens = cell.contrast("distilled", "rag", "tokens")
    if tokens is None or tokens.difference >= 0 or cell.funnel is None:
        return None
    way = cell.funnel
    spent = way.tokens["teacher"] + way.lesson_tokens.get("distilled", 0) * way.student_epochs
    return spent / -tokens.difference


def notes(cell: Cell) -> list[str]:
    """What a reader must know to judge the figures: where tasks come from, what was withheld, model and engine."""
    first = cell.systems[0]
    said = []
    if first.panel_source.startswith("generated"):
        env = words.ENVS.get(cell.env, cell.env)
        said.append(
            f"The tasks were generated by this project in {env}'s own format. These scores are not {env} benchmark "
            "numbers and must not be compared with published ones."
        )
    if first.withheld:
        strength = words.STRENGTHS.get(first.strength, first.strength)
        said.append(f"Withheld skills ({first.strength}): {words.listed(first.withheld)}, {strength}.")
    else:
        said.append("No skill was withheld from the base model.")
    if cell.funnel:
        said.append(f"The hint writer saw, of a failed episode, {cell.funnel.hint_basis}.")
    if first.category_basis == "inferred":
        right = min(row.category_agreement for row in cell.systems)
        said.append(
            "A task's category, by which hints are chosen, was read from its instruction alone (inferred); it was right for "
            f"{words.percent(right)} of the tasks."
        )
    else:
        said.append("Hints are chosen by the task's own category (oracle), as in the paper.")
    shots = max(row.shots for row in cell.systems)
    if shots:
        said.append(f"Worked examples in every prompt but the students': {shots}.")
    elided = {label(row.system, row.seed): row.elided_episodes for row in cell.systems if row.elided_episodes}
    if elided:
        each = words.listed(f"{name} {words.percent(rate)}" for name, rate in elided.items())
        said.append(f"Episodes whose prompts outgrew the window, so that early turns were left out: {each}.")
    models = sorted({row.model for row in cell.systems})
    engines = sorted({row.engine for row in cell.systems})
    said.append(f"Model: {words.listed(models)}. Engine: {words.listed(engines)}.")
    broken = {label(row.system, row.seed): row.machine_failures for row in cell.systems if row.machine_failures}
    if broken:
        each = words.listed(f"{name} {number}" for name, number in broken.items())
        said.append(f"Machine failures, left out of all figures: {each}.")
    return said


def _rank(row: SystemRow) -> tuple[int, str, int]:
    return (ORDER.index(row.system) if row.system in ORDER else len(ORDER), row.system, row.seed)


def _told(row: ContrastRow) -> bool:
    return row.primary or (row.a, row.b) in {("distilled", "base"), ("distilled", "rag"), ("rag", "base")}


def _sentence(row: ContrastRow) -> str:
    a, b = (words.SYSTEMS.get(s, s) for s in (row.a, row.b))
    means = f"{words.mean(row.mean_a, row.metric)} against {words.mean(row.mean_b, row.metric)}"
    opening = f"Primary contrast: {a}" if row.primary else a[0].upper() + a[1:]
    p = row.p_value if row.p_holm is None else row.p_holm
    tested = f"{words.TESTS[row.test]} p {_relation(p)}{'' if row.p_holm is None else ' after Holm'}"
    return (
        f"{opening} against {b}, {words.METRICS[row.metric]}: {means}, "
        f"difference {words.signed(row.difference, row.metric)} points "
        f"(95 % interval {words.interval(row)}; {tested}; {row.n} tasks)."
    )


def _relation(p: float) -> str:
    shown = words.p_value(p)
    return shown if shown.startswith("<") else f"= {shown}"
