"""The report's tables, as text: the HTML page and the Markdown file show the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stages.reporting import words
from stages.reporting.cells import CellReport
from stages.stats.contrasts import ContrastRow
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
    """A line a system: success with its interval, skills, steps, tokens, refusals."""
    scored = any(row.score is not None for row in rows)
    withheld = bool(rows[0].withheld)
    columns = ["System", "n", "Success", "95 % interval"]
    columns += ["Known skills", f"Withheld skills ({rows[0].strength})"] if withheld else []
    columns += ["Score"] if scored else []
    columns += ["Steps", "Tokens an episode", "of these retrieval", "Computed tokens", "Tokens a success", "Refused"]
    columns += ["Episodes with a refusal"]
    silent = any(row.unparsable_rate for row in rows)
    columns += ["Unreadable"] if silent else []
    lines = []
    for row in rows:
        line = [cell.name(row), str(row.n), words.percent(row.success)]
        line.append(words.percent_interval(row.success_low, row.success_high))
        line += [words.share(row.skills["known"]), words.share(row.skills["withheld"])] if withheld else []
        line += [words.DASH if row.score is None else f"{row.score:.1f}"] if scored else []
        line += [f"{row.steps:.1f}", words.count(row.tokens_per_episode), words.count(row.tokens["retrieve"])]
        line += [words.count(row.computed_tokens_per_episode), words.count(row.cost["tokens_per_success"])]
        line += [words.percent(row.invalid_rate), words.percent(row.invalid_episodes)]
        lines.append([*line, *([words.percent(row.unparsable_rate)] if silent else [])])
    note = (
        "Interval: Wilson. Tokens are billed ones: the whole prompt of every turn, the replies and the choice of "
        "hints; computed tokens deduct what the engine reused of a prompt. Refused: share of steps the environment "
        "refused" + ("; unreadable: share of replies that name no action." if silent else ".")
    )
    return Table(f"Systems on the {rows[0].panel} panel", columns, lines, note)


def categories(cell: CellReport) -> Table:
    """Successes by task category, a line a system."""
    hidden = set(cell.systems[0].withheld)
    names = cell.categories
    scored = any(row.score is not None for row in cell.systems)
    columns = ["System", *(f"{name} (withheld)" if name in hidden else name for name in names)]
    tell = words.share_and_score if scored else words.share
    lines = [[cell.name(r), *(tell(r.by_category.get(name)) for name in names)] for r in cell.systems]
    note = "Exploratory: few tasks a category, no test was planned on them."
    note += " Successes, and the mean score." if scored else ""
    return Table("By task category (exploratory)", columns, lines, note)


def contrasts(rows: Sequence[ContrastRow], metric: str) -> Table:
    """A line a paired comparison by one metric, the primary one marked."""
    counted = metric == "success"
    several = any(row.seeds > 1 for row in rows)
    columns = ["Contrast", "First", "Second", "Difference", "95 % interval", "p", "Holm p"]
    columns += ["Only first", "Only second"] if counted else []
    columns += ["Tasks", *(["Seeds"] if several else [])]
    lines = []
    for row in rows:
        line = [f"{row.a} {words.DASH} {row.b}{' (primary)' if row.primary else ''}"]
        line += [words.mean(row.mean_a, metric), words.mean(row.mean_b, metric)]
        line += [words.signed(row.difference, metric), words.interval(row)]
        line += [words.p_value(row.p_value), words.p_value(row.p_holm)]
        line += [words.count(row.only_a), words.count(row.only_b)] if counted else []
        lines.append([*line, str(row.n), *([str(row.seeds)] if several else [])])
    note = (
        f"First minus second on the same tasks{', in percentage points' if counted else ''}. Interval: paired "
        f"bootstrap over tasks{' and seeds' if several else ''}. "
        f"Test: {words.listed(sorted({words.TESTS[row.test] for row in rows}))}. "
        "The primary contrast was declared beforehand; Holm corrects all others, of every metric, together."
    )
    note += " Only first, only second: tasks one of the two solved." if counted else ""
    marked = frozenset(i for i, row in enumerate(rows) if row.primary)
    return Table(
        f"Paired contrasts on the {rows[0].panel} panel: {words.METRICS[metric]}", columns, lines, note, marked
    )


def contrasts_by_metric(rows: Sequence[ContrastRow]) -> list[Table]:
    """One table a metric, in the order met."""
    metrics = dict.fromkeys(row.metric for row in rows)
    return [contrasts([row for row in rows if row.metric == metric], metric) for metric in metrics]


def way(row: FunnelRow) -> list[tuple[str, str, str]]:
    """The funnel's stations in order: name, count, remark."""
    stations = [
        ("Episodes", row.episodes, f"of the base agent, {row.panel} panel"),
        ("Failures", row.failures, f"{row.base_successes} successes"),
        ("Hints", row.hints, "written from failures"),
        ("Bank", row.bank, "near-duplicates merged"),
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


def teaching(row: FunnelRow) -> Table:
    """Did hints help the teacher where the base agent failed: success by skill, on the train panel."""
    names = [("known", "Known skills"), ("withheld", f"Withheld skills ({row.strength})")]
    shown = [(key, title) for key, title in names if row.skills["base"][key]["n"]]
    lines = [[who, *(words.share(row.skills[who][key]) for key, _ in shown)] for who in ("base", "teacher")]
    note = f"The teacher solved {row.recovered} tasks the base agent had failed, and failed {row.lost} it had solved."
    return Table(
        f"Base agent and hinted teacher on the {row.panel} panel", ["Agent", *(t for _, t in shown)], lines, note
    )


def rules(row: FunnelRow) -> Table:
    """What each rule of the hint writer led to."""
    lines = [
        [
            rule,
            str(use["hints"]),
            str(use["shown"]),
            words.percent(use["succeeded"] / use["shown"] if use["shown"] else None),
        ]
        for rule, use in row.rules.items()
    ]
    columns = ["Rule of the hint writer", "Hints", "Teacher episodes shown it", "Their success"]
    return Table(
        "Hints by rule", columns, lines, "An episode is shown several hints and counts for each of their rules."
    )


def gates(row: FunnelRow) -> Table:
    """Every gate, a column an arm, and what was dropped on the way to the lessons."""
    names = dict.fromkeys(name for by_gate in row.gates.values() for name in by_gate)
    lines = [[name, *(_gate(by_gate.get(name)) for by_gate in row.gates.values())] for name in names]
    dropped = "; ".join(
        f"{arm}: " + words.listed(f"{number} {reason}" for reason, number in reasons.items())
        for arm, reasons in row.dropped.items()
        if reasons
    )
    note = f"Successes not made into lessons: {dropped}." if dropped else "No success was dropped."
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
    lines = [[words.env(e), panel, str(n), source, sha] for (e, panel, sha), (n, source) in seen.items()]
    return Table("Panels", ["Environment", "Panel", "Tasks", "Source", "sha256"], lines)
