"""What belongs together in the report: all figures of one environment and agent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stages.reporting import words
from stages.stats.contrasts import ContrastRow, primary_metric
from stages.stats.funnel import FunnelRow
from stages.stats.systems import SystemRow, label

ORDER = tuple(words.SYSTEMS)


@dataclass(frozen=True)
class CellReport:
    """One environment and agent: systems and contrasts of the reported panel, also by skill, of the other panels, and the funnel."""

    env: str
    agent: str
    systems: Sequence[SystemRow]
    contrasts: Sequence[ContrastRow]
    by_skill: Sequence[ContrastRow]
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
        return f"{words.env(self.env)}, {words.agent(self.agent)}"

    @property
    def metric(self) -> str:
        """The metric that the answer is judged by."""
        return primary_metric(graded=self.systems[0].score is not None)

    @property
    def categories(self) -> list[str]:
        """Task categories in the report's order: known ones, then withheld ones."""
        hidden = set(self.systems[0].withheld)
        return sorted({c for row in self.systems for c in row.by_category}, key=lambda c: (c in hidden, c))

    @property
    def meets_withheld(self) -> bool:
        """Whether a task of the reported panel calls for a withheld skill."""
        return any(row.skills["withheld"]["n"] for row in self.systems)

    def name(self, row: SystemRow) -> str:
        """A system's name, its seed told where there are several."""
        named = words.SYSTEMS.get(row.system, row.system)
        return f"{named}, seed {row.seed}" if len(self.rows_of(row.system)) > 1 else named

    def key_of(self, row: SystemRow) -> str:
        """A system's short name, its seed told where there are several: `rag`, `distilled_s1`."""
        return label(row.system, row.seed) if len(self.rows_of(row.system)) > 1 else row.system

    def rows_of(self, system: str) -> list[SystemRow]:
        """A system's rows on the reported panel, one a training seed."""
        return [row for row in self.systems if row.system == system]

    def contrast(self, a: str, b: str, metric: str) -> ContrastRow | None:
        """The contrast of two systems on the reported panel, if it was made."""
        return next((r for r in self.contrasts if (r.a, r.b, r.metric) == (a, b, metric)), None)

    @property
    def prediction(self) -> ContrastRow | None:
        """What hints change for the untrained agent on the train panel, known before any student is trained."""
        wanted = ("rag", "base", self.metric, self.funnel.panel if self.funnel else "")
        return next((r for r in self.other_contrasts if (r.a, r.b, r.metric, r.panel) == wanted), None)


def cells(
    systems: Iterable[SystemRow],
    other_systems: Iterable[SystemRow],
    contrasts: Iterable[ContrastRow],
    other_contrasts: Iterable[ContrastRow],
    by_skill: Iterable[ContrastRow],
    funnel: Iterable[FunnelRow],
) -> list[CellReport]:
    """Group rows by environment and agent, in the order met; systems in the report's order."""
    ranked = sorted(systems, key=_rank)
    others = sorted(other_systems, key=lambda row: (row.panel, *_rank(row)))
    pairs, other_pairs, skilled, ways = list(contrasts), list(other_contrasts), list(by_skill), list(funnel)
    reported = {row.env: row.panel for row in ranked}
    return [
        CellReport(
            env=env,
            agent=agent,
            systems=[r for r in ranked if (r.env, r.agent) == (env, agent)],
            contrasts=[r for r in pairs if (r.env, r.agent) == (env, agent)],
            by_skill=[r for r in skilled if (r.env, r.agent, r.panel) == (env, agent, reported[env])],
            other_systems=[r for r in others if (r.env, r.agent) == (env, agent)],
            other_contrasts=[r for r in other_pairs if (r.env, r.agent) == (env, agent)],
            funnel=next((r for r in ways if (r.env, r.agent) == (env, agent)), None),
        )
        for env, agent in dict.fromkeys((r.env, r.agent) for r in ranked)
    ]


def break_even(cell: CellReport, against: str = "rag") -> float | None:
    """Episodes after which the distilled student has cost fewer tokens than the agent with hints, or the base agent, everything counted.

    (teacher's tokens + lesson tokens x epochs) / (tokens an episode saved). Rollouts and hint writing are needed for the agent with hints too; against
    the base agent they count. None when nothing is saved. Source: arXiv 2407.01502, which asks for the break-even point beside accuracy.
    """
    tokens = cell.contrast("distilled", against, "tokens")
    if tokens is None or tokens.difference >= 0 or cell.funnel is None:
        return None
    way = cell.funnel
    spent = way.tokens["teacher"] + way.lesson_tokens.get("distilled", 0) * way.student_epochs
    if against == "base":
        spent += way.tokens["rollouts"] + way.tokens["write"]
    return spent / -tokens.difference


def warning(found: Sequence[CellReport]) -> str:
    """What must be said beside every figure of generated tasks; empty where all are official."""
    generated = [cell.env for cell in found if cell.systems[0].panel_source.startswith("generated")]
    if not generated:
        return ""
    envs = words.listed(dict.fromkeys(map(words.env, generated)))
    return (
        f"The tasks of {envs} were generated by this project in the original format. These scores are no benchmark numbers and must "
        "not be compared with published ones."
    )


def notes(cell: CellReport) -> list[str]:
    """What a reader must know to judge the figures: what was withheld, how hints were chosen, model and engine."""
    first = cell.systems[0]
    said = []
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
    said += _shared(cell.funnel) if cell.funnel else []
    if cell.funnel and cell.funnel.matched:
        said.append(
            f"The lessons of all arms were cut to the smallest arm's {words.MATCHED[cell.funnel.matched]} (lessons.match)."
            + (" Passes over them were not: on_policy has its own." if "on_policy" in cell.funnel.lessons else "")
        )
    if cell.rows_of("oracle"):
        said.append("The hints of oracle were written by hand, knowing the rules of the environment: an upper bound.")
    shots = max(row.shots for row in cell.systems)
    if shots:
        said.append(f"Worked examples in every prompt but the students': {shots}.")
    elided = {cell.name(row): row.elided_episodes for row in cell.systems if row.elided_episodes}
    if elided:
        each = words.listed(f"{name} {words.percent(rate)}" for name, rate in elided.items())
        said.append(f"Episodes whose prompts outgrew the window, so that early turns were left out: {each}.")
    models = dict.fromkeys(words.model(row.model) for row in cell.systems)
    engines = sorted({row.engine for row in cell.systems})
    said.append(f"Model: {words.listed(models)}. Engine: {words.listed(engines)}.")
    broken = {cell.name(row): row.machine_failures for row in cell.systems if row.machine_failures}
    if broken:
        each = words.listed(f"{name} {number}" for name, number in broken.items())
        said.append(f"Machine failures, left out of all figures: {each}.")
    return said


def _shared(way: FunnelRow) -> list[str]:
    """What the panels have in common, what became of lessons that share it with a measured task, and the data's rows that do not count."""
    said = [
        f"Of {row['tasks']:,} {row['panel']} tasks, these share something with a task of {row['with']}: "
        + words.listed(f"{number} the {what}" for what, number in row["shared"].items())
        + "."
        for row in way.overlaps
    ] or ["The panels have no goal in common."]
    if way.left_out:
        rows = words.listed(f"{number:,} with {reason}" for reason, number in way.left_out.items())
        said.append(
            f"Rows of the official files left out, as the official reader does: {rows} (data/panels/{way.env}/left_out.json)."
        )
    dropped = {arm: reasons.get("shared_goal", 0) for arm, reasons in way.dropped.items()}
    kept = {arm: gates.get("no_measured_goal", {}).get("failed", 0) for arm, gates in way.gates.items()}
    for fate, counts in (
        ("Left out of the lessons, as", dropped),
        ("Kept among the lessons (lessons.shared_goals: keep), though", kept),
    ):
        if any(counts.values()):
            each = words.listed(f"{arm} {number}" for arm, number in counts.items())
            said.append(f"{fate} a dev or test task asks for the same: {each}.")
    return said


def _rank(row: SystemRow) -> tuple[int, str, int]:
    return (ORDER.index(row.system) if row.system in ORDER else len(ORDER), row.system, row.seed)
