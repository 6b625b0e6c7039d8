"""The report's first answer for an environment and agent: did it work, by how much, how sure, at what cost, against which controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from stages.reporting import words
from stages.reporting.cells import CellReport, break_even
from stages.reporting.tables import Table
from stages.stats.contrasts import PRIMARY, ContrastRow
from stages.stats.systems import STUDENTS

CONTROLS = (
    ("distilled", "distilled_random"),
    ("on_policy", "distilled"),
    ("on_policy", "base"),
    ("hinted", "rag"),
    ("distilled_rag", "distilled"),
    ("rag", "random"),
    ("rag", "constant"),
    ("rag", "rag_wrong"),
    ("oracle", "rag"),
    ("sft", "base"),
)
SIGNS = {"yes": "✓", "partly": "◐", "open": "○", "no": "✗"}


@dataclass(frozen=True)
class Verdict:
    """`tone` is yes, partly, open or no; `answer` says it in words. `differences` is None where nothing was compared; `points` are a
    heading and a sentence each."""

    tone: str
    answer: str
    differences: Table | None
    points: Sequence[tuple[str, str]]

    @property
    def sign(self) -> str:
        """The tone as a symbol, for readers without colour."""
        return SIGNS[self.tone]


def verdict(cell: CellReport) -> Verdict:
    """What the metric files say."""
    tone, answer = _answer(cell)
    points = [
        ("Withheld skills", _withheld(cell)),
        ("Solved in full", _in_full(cell)),
        ("Power", _power(cell)),
        ("Cost", _cost(cell)),
    ]
    return Verdict(tone, answer, _differences(cell), [(heading, said) for heading, said in points if said])


def _answer(cell: CellReport) -> tuple[str, str]:
    """Judged by the contrast declared beforehand, and by the one with the base agent."""
    missing = [system for system in PRIMARY if not cell.rows_of(system)]
    if missing:
        return "open", f"Not answered: {words.listed(missing)} not evaluated, so there is nothing to compare."
    row = cell.contrast(*PRIMARY, cell.metric)
    if row is None:
        return "open", "Not answered: no task was played to its end by both students."
    where = "" if row.primary else f" (on the {row.panel} panel, for choices only)"
    if not row.told_apart:
        return "open", f"Not shown{where}: distilled students and students of own successes are not told apart."
    if row.difference < 0:
        return "no", f"No{where}: distilled students do worse than students of the agent's own successes."
    by = f"{', by score' if cell.metric == 'score' else ''}{where}"
    above = cell.contrast("distilled", "base", cell.metric)
    if above and not (above.told_apart and above.difference > 0):
        return (
            "partly",
            f"In part{by}: better than students of own successes, not shown to be better than the base agent.",
        )
    return "yes", f"Yes{by}: distilled students, without hints, do better than students of the agent's own successes."


def _differences(cell: CellReport) -> Table | None:
    """A line a comparison that the answer rests on: the students', hints against none, the controls."""
    metric = cell.metric
    pairs = [PRIMARY, ("distilled", "base"), ("distilled", "rag"), ("rag", "base"), *CONTROLS]
    rows = [row for pair in pairs if (row := cell.contrast(*pair, metric))]
    if not rows:
        return None
    lines = [
        [
            f"{row.a} against {row.b}{' (primary)' if row.primary else ''}",
            words.difference(row),
            words.p_value(row.p),
            _meaning(row),
        ]
        for row in rows
    ]
    trained = [row.seeds for row in rows if row.a in STUDENTS]
    seeds = f", {max(trained)} training seed{'s' * (max(trained) > 1)}" if trained else ""
    tests = words.listed(sorted({words.TESTS[row.test] for row in rows}))
    marked = frozenset(i for i, row in enumerate(rows) if row.primary)
    corrected = "the primary contrast was declared beforehand, all others are" if marked else "all are"
    note = f"Points of {metric} on {words.numbers(row.n for row in rows)} paired tasks{seeds}. p: {tests}; {corrected} corrected (Holm)."
    return Table(
        f"Differences on the {rows[0].panel} panel",
        ["Difference", "Points (95 %)", "p", "Verdict"],
        lines,
        note,
        marked,
    )


def _meaning(row: ContrastRow) -> str:
    if not row.told_apart:
        return "not told apart"
    return "better" if row.difference > 0 else "worse"


def _withheld(cell: CellReport) -> str:
    """Successes at tasks of skills that the base model was never taught, added up over training seeds."""
    if not cell.meets_withheld:
        return ""
    said = []
    for system in dict.fromkeys(row.system for row in cell.systems):
        shares = [row.skills["withheld"] for row in cell.rows_of(system)]
        won = sum(round((share["success"] or 0.0) * share["n"]) for share in shares)
        said.append(f"{system} {won}/{sum(share['n'] for share in shares)}")
    return f"{', '.join(said)}."


def _in_full(cell: CellReport) -> str:
    """Where the score judges, whether more tasks are solved in full."""
    row = cell.contrast(*PRIMARY, "success")
    if row is None or cell.metric == "success":
        return ""
    points = words.signed(row.difference, "success")
    p = words.p_value(row.p)
    return f"{row.a} against {row.b} {points} points of success (p {p if p.startswith('<') else f'= {p}'}), {_meaning(row)}."


def _power(cell: CellReport) -> str:
    """How small a difference the primary contrast could show: what an answer of "not shown" is worth."""
    row = cell.contrast(*PRIMARY, cell.metric)
    if row is None or row.detectable is None:
        return ""
    points = words.signed(row.detectable, row.metric).removeprefix("+")
    seeds = f" and {row.seeds} trainings" if row.seeds > 1 else ""
    often = (
        "about four of five" if seeds else "four of five"
    )  # with several trainings the power was 69 to 87 % in simulations, by their spread
    return (
        f"In {often} studies, {row.n} tasks{seeds} like these show a difference of {points} points of {row.metric} "
        f"between {row.a} and {row.b}; smaller ones less often."
    )


def _cost(cell: CellReport) -> str:
    """Billed tokens an episode, and when what the student cost is paid back."""
    order = [system for system in ("distilled", "rag", "sft", "base") if cell.rows_of(system)]
    said = ", ".join(
        f"{system} {words.count(fmean(row.tokens_per_episode for row in cell.rows_of(system)))}" for system in order
    )
    text = f"Tokens an episode: {said}." if order else ""
    if cell.contrast("distilled", "rag", "tokens") is None or cell.funnel is None:
        return text
    even = break_even(cell)
    if even is None:
        return f"{text} Against hints none are saved, so teaching is not paid back."
    text = f"{text} Teaching is paid back against hints after {words.count(even)} episodes"
    base = break_even(cell, "base")
    return f"{text}, against the base agent after {words.count(base)}." if base else f"{text}."
