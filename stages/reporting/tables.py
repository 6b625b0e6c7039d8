"""The report's tables, as text. None has more columns than a phone shows: what is wide is split or turned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stages.core.records import REJECTIONS
from stages.reporting import words
from stages.reporting.cells import CellReport
from stages.stats.contrasts import PRIMARY, PRIMARY_PANEL, ContrastRow
from stages.stats.funnel import FunnelRow
from stages.stats.systems import SystemRow

Line = Sequence[str]


@dataclass(frozen=True)
class Table:
    """Columns and lines of text. `marked` lines stand out; `note` says how to read it."""

    title: str
    columns: Line
    lines: Sequence[Line]
    note: str = ""
    marked: frozenset[int] = field(default_factory=frozenset)


def headline(cell: CellReport, rows: Sequence[SystemRow]) -> Table:
    """A line a system: success with its interval, skills, score, tokens."""
    scored = any(row.score is not None for row in rows)
    withheld = any(row.skills["withheld"]["n"] for row in rows)
    columns = ["System", "Solved (95 %)", *(["Known skills", "Withheld skills"] if withheld else [])]
    columns += [*(["Score"] if scored else []), "Tokens an episode"]
    lines = []
    for row in rows:
        line = [
            cell.name(row),
            f"{words.percent(row.success)} ({words.whole_interval(row.success_low, row.success_high)})",
        ]
        line += [words.fraction(row.skills["known"]), words.fraction(row.skills["withheld"])] if withheld else []
        line += [words.DASH if row.score is None else f"{row.score:.1f}"] if scored else []
        lines.append([*line, words.count(row.tokens_per_episode)])
    note = f"{words.numbers(row.n for row in rows)} tasks of the {rows[0].panel} panel. Interval: Wilson. Tokens: the whole prompt of every turn, the replies and the choice of hints."
    return Table(f"Systems on the {rows[0].panel} panel", columns, lines, note)


def effort(cell: CellReport, rows: Sequence[SystemRow]) -> Table:
    """What the episodes took and where they stumbled: a column a system."""
    figures: list[tuple[str, Callable[[SystemRow], str]]] = [
        ("Tasks counted", lambda row: str(row.n)),
        ("Turns an episode", lambda row: f"{row.steps:.1f}"),
        ("Tokens for the choice of hints", lambda row: words.count(row.tokens["retrieve"])),
        ("Computed tokens an episode", lambda row: words.count(row.computed_tokens_per_episode)),
        ("Tokens a success", lambda row: words.count(row.cost["tokens_per_success"])),
        ("Refused turns", lambda row: words.percent(row.invalid_rate)),
        ("Episodes with a refusal", lambda row: words.percent(row.invalid_episodes)),
        ("Unreadable replies", lambda row: words.percent(row.unparsable_rate)),
    ]
    lines = [[name, *(figure(row) for row in rows)] for name, figure in figures]
    note = "Computed tokens deduct what the engine reused of a prompt. Refused: by the environment. Unreadable: no action named."
    return Table("Turns, tokens, refusals", ["", *map(cell.key_of, rows)], lines, note)


def categories(cell: CellReport) -> Table:
    """Successes by task category: a column a system."""
    hidden = set(cell.systems[0].withheld)
    lines = [
        [f"{name} (withheld)" if name in hidden else name]
        + [words.fraction(row.by_category.get(name)) for row in cell.systems]
        for name in cell.categories
    ]
    scored = any(row.score is not None for row in cell.systems)
    if scored:
        lines += [
            [f"{name}: score", *(words.reward(row.by_category.get(name)) for row in cell.systems)]
            for name in cell.categories
        ]
    note = "Exploratory: few tasks a category, no test was planned on them." + (
        " Score: mean reward x 100." if scored else ""
    )
    return Table("Solved, by task category", ["Category", *map(cell.key_of, cell.systems)], lines, note)


def contrasts(rows: Sequence[ContrastRow], metric: str) -> Table:
    """A line a paired comparison by one metric, the primary one marked."""
    counted = metric == "success"
    columns = ["Contrast", "Means", "Difference (95 %)", "p", "Holm p", *(["Only one solved"] if counted else [])]
    lines = []
    for row in rows:
        line = [f"{row.a} {words.MINUS} {row.b}{' (primary)' if row.primary else ''}"]
        line += [f"{words.mean(row.mean_a, metric)}, {words.mean(row.mean_b, metric)}"]
        line += [words.difference(row)]
        line += [words.p_value(row.p_value), words.p_value(row.p_holm)]
        lines.append([*line, *([f"{row.only_a} : {row.only_b}"] if counted else [])])
    marked = frozenset(i for i, row in enumerate(rows) if row.primary)
    title = f"Paired contrasts on the {rows[0].panel} panel: {words.METRICS[metric]}"
    return Table(title, columns, lines, _how_paired(rows, counted), marked)


def _how_paired(rows: Sequence[ContrastRow], counted: bool) -> str:
    several = max(row.seeds for row in rows)
    corrected = "all but the contrast declared beforehand" if rows[0].panel == PRIMARY_PANEL else "all contrasts"
    return (
        f"First minus second on the same {words.numbers(row.n for row in rows)} tasks{', in percentage points' if counted else ''}"
        f"{f'; up to {several} training seeds' if several > 1 else ''}. Interval: paired bootstrap over tasks"
        f"{' and seeds' if several > 1 else ''}. Test: {words.listed(sorted({words.TESTS[row.test] for row in rows}))}. "
        f"Holm corrects {corrected}, of every metric, together."
        + (" Only one solved: tasks that only the first solved, and only the second." if counted else "")
    )


def contrasts_by_metric(rows: Sequence[ContrastRow]) -> list[Table]:
    """One table a metric, in the order met."""
    metrics = dict.fromkeys(row.metric for row in rows)
    return [contrasts([row for row in rows if row.metric == metric], metric) for metric in metrics]


def gained_and_lost(cell: CellReport) -> Table | None:
    """A line a student: against the base agent, at tasks of withheld and of known skills."""
    rows = {(row.a, row.tasks): row for row in cell.by_skill}
    if not rows:
        return None
    kinds = ("withheld", "known")
    lines = [
        [a, *(words.difference(rows[a, kind]) for kind in kinds)] for a in dict.fromkeys(row.a for row in cell.by_skill)
    ]
    counted = [words.numbers(row.n for row in cell.by_skill if row.tasks == kind) for kind in kinds]
    columns = ["Student against base", *(f"{kind.capitalize()} skills (95 %)" for kind in kinds)]
    note = f"Points of {cell.metric} on {counted[0]} tasks of withheld and {counted[1]} of known skills, paired. Descriptive: no test, no correction."
    return Table("What was gained and what was lost", columns, lines, note)


def predicted(cell: CellReport) -> Table | None:
    """What hints change for the untrained agent, and what training without them then changed."""
    foretold = cell.prediction
    measured = [row for pair in (("distilled", "base"), PRIMARY) if (row := cell.contrast(*pair, cell.metric))]
    if foretold is None or not measured:
        return None
    lines = [["predicted: hints against none", words.difference(foretold), f"{foretold.n} {foretold.panel}"]]
    lines += [[f"measured: {row.a} against {row.b}", words.difference(row), f"{row.n} {row.panel}"] for row in measured]
    note = (
        f"Points of {cell.metric}. The prediction is the base agent's own, before any student is trained, on the panel whose failures the hints "
        "were drawn from: it leans high."
    )
    return Table("Predicted and measured", ["Gain", "Points (95 %)", "Tasks"], lines, note)


def way(row: FunnelRow) -> list[tuple[str, str, str]]:
    """The funnel's stations in order: name, count, remark."""
    stations = [
        ("Episodes", row.episodes, f"of the base agent, {row.panel} panel"),
        ("Failures", row.failures, f"{row.base_successes} successes"),
        ("Hints", row.hints, _written(row)),
        ("Bank", row.bank, "near-duplicates merged" + (f"; {row.curated} by hand" if row.curated else "")),
        (
            "Teacher successes",
            row.teacher_successes,
            f"of {row.teacher_episodes}; {row.recovered} won, {row.lost} lost",
        ),
    ]
    stations += [
        (
            f"Lessons, {arm}",
            number,
            f"{words.count(row.trained_tokens[arm])} of {words.count(row.lesson_tokens[arm])} tokens trained",
        )
        for arm, number in row.lessons.items()
    ]
    return [(name, words.count(number), remark) for name, number, remark in stations]


def _written(row: FunnelRow) -> str:
    """How many hints the gate turned away and why, and what writing them cost."""
    said = ["written from failures"]
    if row.rejected:
        reasons = words.listed(f"{number} {REJECTIONS[reason]}" for reason, number in row.rejected.items())
        said.append(f"turned away: {reasons}")
    if row.tokens["write"]:
        price = f" ({row.dollars:.2f} dollars)" if row.dollars else ""
        said.append(f"{words.count(row.tokens['write'])} tokens{price}")
    return "; ".join(said)


def teaching(row: FunnelRow) -> Table:
    """Did hints help the teacher where the base agent failed: success by skill, on the train panel."""
    names = [("known", "Known skills"), ("withheld", f"Withheld skills ({row.strength})")]
    shown = [(key, title) for key, title in names if row.skills["base"][key]["n"]]
    lines = [[who, *(words.share(row.skills[who][key]) for key, _ in shown)] for who in row.skills]
    note = f"The teacher solved {row.recovered} tasks the base agent had failed, and failed {row.lost} it had solved."
    return Table(
        f"Base agent and hinted teacher on the {row.panel} panel", ["Agent", *(t for _, t in shown)], lines, note
    )


def rules(row: FunnelRow) -> Table:
    """What each rule of the hint writer led to."""
    lines = [
        [rule, str(use["hints"]), f"{use['succeeded']}/{use['shown']}" if use["shown"] else words.DASH]
        for rule, use in row.rules.items()
    ]
    note = "Solved: teacher's episodes that were shown a hint of the rule. An episode is shown several hints and counts for each of their rules."
    return Table("Hints by rule of the writer", ["Rule", "Hints", "Solved"], lines, note)


def gates(row: FunnelRow) -> Table:
    """Every gate, a column an arm, and what was dropped on the way to the lessons."""
    names = dict.fromkeys(name for by_gate in row.gates.values() for name in by_gate)
    lines = [[name, *(_gate(by_gate.get(name)) for by_gate in row.gates.values())] for name in names]
    dropped = "; ".join(
        f"{arm}: " + words.listed(f"{number} {reason}" for reason, number in reasons.items())
        for arm, reasons in row.dropped.items()
        if reasons
    )
    note = f"Episodes not made into lessons: {dropped}." if dropped else "No episode was dropped."
    return Table("Lesson gates", ["Gate", *row.gates], lines, note)


def _gate(counts: Mapping[str, int] | None) -> str:
    return words.DASH if counts is None else f"{counts['failed']} of {counts['checked']} failed"


def panels(cells: Iterable[CellReport]) -> Table:
    """Every panel the figures stand on. n counts all tasks, those with a machine failure included."""
    seen: dict[tuple[str, str, str], tuple[int, str]] = {}
    for cell in cells:
        if cell.funnel:
            way_ = cell.funnel
            total = way_.episodes + way_.machine_failures["base"]
            seen[cell.env, way_.panel, way_.panel_sha256] = (total, cell.systems[0].panel_source)
        for row in [*cell.other_systems, *cell.systems]:
            seen[row.env, row.panel, row.panel_sha256] = (row.n + row.machine_failures, row.panel_source)
    lines = [[f"{words.env(e)}, {panel}", str(n), source, sha] for (e, panel, sha), (n, source) in seen.items()]
    return Table("Panels", ["Panel", "Tasks", "Source", "SHA-256"], lines)


def models(cells: Iterable[CellReport]) -> Table:
    """The weights behind every system."""
    lines = [[f"{cell.title}: {cell.key_of(row)}", row.model] for cell in cells for row in cell.systems]
    return Table("Models", ["System", "Name@digest of the base, + digest of the adapter"], lines)
