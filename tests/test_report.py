"""The report shows what the metric files say, whatever of it is missing, and the same bytes each time."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fake_study import SHA, TASKS, broken, entry, hint, lesson, run

from stages import metrics, report
from stages.core.records import Episode
from stages.reporting import cells, tables, words
from stages.reporting.cells import CellReport
from stages.stats.contrasts import contrast_rows
from stages.stats.funnel import FunnelRow, LessonSet, funnel_row
from stages.stats.systems import Panel, Study, system_row

STUDY = Study(withheld=("heat",), strength="full", panel_source="generated")


def known(task: str, category: str) -> bool:
    return category == "put"


def everything(task: str, category: str) -> bool:
    return True


def funnel() -> FunnelRow:
    arms = {
        "sft": LessonSet([lesson("sft", "put-1", "put")], {"leak": {"checked": 1, "failed": 0}}, {}),
        "distilled": LessonSet(
            [lesson("distilled", task, category) for task, category in TASKS],
            {"leak": {"checked": 12, "failed": 0}},
            {"too many refusals": 3},
        ),
    }
    panel = Panel(SHA["train"], frozenset(task for task, _ in TASKS))
    plays = run("base", known, "train"), run("rag", everything, "train", hint_ids=["b1"])
    return funnel_row(panel, *plays, [hint(0, "unused_action")], [entry(1, ["h0"])], arms, STUDY, 2)


def write_metrics(folder: Path, runs: list[list[Episode]], ways: list[FunnelRow], study: Study = STUDY) -> None:
    by_panel = {panel: [r for r in runs if r[0].panel == panel] for panel in ("dev", "test")}
    contrasts = [row for found in by_panel.values() for row in contrast_rows(found, 200, 3)]
    metrics.write_all(folder, [system_row(r, study, "c0ffee") for r in runs], contrasts, ways, "test")


def whole_study() -> list[list[Episode]]:
    return [
        run(
            system,
            everything if system in ("rag", "distilled") else known,
            panel,
            retrieve_tokens=50 * (system == "rag"),
        )
        for panel in ("dev", "test")
        for system in ("distilled", "base", "sft", "rag")
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_metrics(tmp_path / "metrics", whole_study(), [funnel()])
    return at_the_root(tmp_path, monkeypatch)


def at_the_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as the project's root, where the stage is started."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["report"])
    (folder / "dvc.yaml").touch()
    return folder


def cell_of(folder: Path) -> CellReport:
    return report.read_cells(folder / "metrics")[0]


def test_figures_of_official_tasks_are_not_called_generated(tmp_path: Path) -> None:
    for source, said in (("generated", True), ("official (json_2.1.2; 134 valid_unseen)", False)):
        study = dataclasses.replace(STUDY, panel_source=source)
        write_metrics(tmp_path / "metrics", whole_study(), [funnel()], study)
        assert ("not ALFWorld benchmark numbers" in " ".join(cells.notes(cell_of(tmp_path)))) == said
        assert source in {line[3] for line in tables.panels([cell_of(tmp_path)]).lines}


class Page(HTMLParser):
    """Ids, tag balance and addresses of a page."""

    VOID = frozenset({"meta", "br", "link", "img", "path", "rect", "use", "line", "circle"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_holds_the_figures_and_needs_nothing_else(folder: Path) -> None:
    assert report.main() == 0
    text = (folder / "report/index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert all(address.startswith("#") for address in page.addresses)
    assert "<script" not in text and "@import" not in text
    assert text.count("<svg") == 5
    assert "currentColor" in text and "#010203" not in text
    for said in (
        "must not be compared with published ones",
        "Withheld skills (full): heat, never shown in the warm-up.",
        "Model: tiny. Engine: cpu.",
        "100.0 %",
        SHA["test"],
        SHA["train"],
        "c0ffee",
        f"distilled {words.DASH} sft (primary)",
        "0 of 12 failed",
        "distilled: 3 too many refusals",
    ):
        assert said in text, said


def test_the_same_metrics_give_the_same_bytes(folder: Path) -> None:
    report.main()
    first = {p: p.read_bytes() for p in (folder / "report").rglob("*.*")}
    report.main()
    assert first == {p: p.read_bytes() for p in (folder / "report").rglob("*.*")}
    assert not any(re.search(rb"\b20\d\d-\d\d-\d\d", content) for content in first.values())


def test_markdown_tables_are_even_and_their_figures_exist(folder: Path) -> None:
    report.main()
    lines = (folder / "report/report.md").read_text(encoding="utf-8").splitlines()
    for before, line in itertools.pairwise(lines):
        if before.startswith("|") and line.startswith("|"):
            assert before.count("|") == line.count("|")
    linked = [m.group(1) for line in lines if (m := re.search(r"\]\((figures/.*?)\)", line))]
    assert len(linked) == 5
    assert all((folder / "report" / path).read_text(encoding="utf-8").startswith("<svg") for path in linked)


def test_systems_stand_in_the_reports_order_with_their_figures(folder: Path) -> None:
    cell = cell_of(folder)
    table = tables.headline(cell, cell.systems)
    assert [line[0] for line in table.lines] == ["base agent", "with hints (rag)", "own successes (sft)", "distilled"]
    rag = dict(zip(table.columns, table.lines[1], strict=True))
    assert rag["Success"] == "100.0 %"
    assert rag["Known skills"] == rag["Withheld skills (full)"] == "6/6 (100 %)"
    assert (rag["Tokens an episode"], rag["of these retrieval"], rag["Tokens a success"]) == ("310", "50", "310")
    assert (rag["Computed tokens"], rag["Refused"]) == ("130", "50.0 %")
    assert table.lines[0][table.columns.index("Withheld skills (full)")] == "0/6 (0 %)"


def test_the_primary_contrast_is_marked_and_comes_first(folder: Path) -> None:
    cell = cell_of(folder)
    table = tables.contrasts_by_metric(cell.contrasts)[0]
    (marked,) = table.marked
    line = dict(zip(table.columns, table.lines[marked], strict=True))
    assert (line["Contrast"], line["Difference"], line["p"], line["Holm p"]) == (
        f"distilled {words.DASH} sft (primary)",
        "+50.0",
        "0.031",
        words.DASH,
    )
    assert (line["Only first"], line["Only second"], line["Tasks"]) == ("6", "0", "12")
    said = cells.findings(cell)
    assert said[0].startswith(
        "Primary contrast: distilled against own successes (sft), success: 100.0 % against 50.0 %"
    )
    assert "exact McNemar p = 0.031; 12 tasks" in said[0]
    assert any("50 fewer billed tokens an episode" in sentence for sentence in said)


def test_break_even_divides_what_was_spent_by_what_is_saved(folder: Path) -> None:
    teacher, lessons, epochs, saved = 12 * 260, 12 * 50, 2, 50
    assert cells.break_even(cell_of(folder)) == pytest.approx((teacher + lessons * epochs) / saved)


def test_the_funnels_stations_follow_its_counts() -> None:
    assert [(name, number) for name, number, _ in tables.way(funnel())] == [
        ("Episodes", "12"),
        ("Failures", "6"),
        ("Hints", "1"),
        ("Bank", "1"),
        ("Teacher successes", "12"),
        ("Lessons, sft", "1"),
        ("Lessons, distilled", "12"),
    ]
    assert tables.rules(funnel()).lines == [["unused_action", "1", "12", "100.0 %"]]


def test_one_system_alone_and_no_funnel_make_a_report_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_root(tmp_path, monkeypatch)
    write_metrics(tmp_path / "metrics", [run("base", lambda t, c: False)], [], Study())
    assert report.main() == 0
    text = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 3
    assert "No skill was withheld" in text
    assert "distilled" not in re.sub(r"<style>.*?</style>", "", text, flags=re.S)
    assert "Paired contrasts" not in text and "Findings" not in text and "benchmark" not in text


def test_seeds_are_told_apart_and_weaker_evidence_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_root(tmp_path, monkeypatch)
    runs = [run(arm, known, seed=seed) for arm in ("sft", "distilled") for seed in (0, 1)]
    write_metrics(tmp_path / "metrics", runs, [], dataclasses.replace(STUDY, strength="hinted_only"))
    assert report.main() == 0
    text = (tmp_path / "report/report.md").read_text(encoding="utf-8")
    assert "distilled, seed 1" in text
    assert "only together with their hint, which is weaker evidence" in text
    assert "Withheld skills (hinted_only)" in text
    assert "Seeds" in text and "sign-flip permutation" in text


def test_machine_failures_are_told_and_text_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_root(tmp_path, monkeypatch)
    episodes = run("base", known, model="<b>tiny</b>")
    write_metrics(tmp_path / "metrics", [[broken(episodes[0]), *episodes[1:]]], [])
    assert report.main() == 0
    text = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert "Machine failures, left out of all figures: base 1." in text
    assert "&lt;b&gt;tiny&lt;/b&gt;" in text and "<b>tiny" not in text


def test_unusable_metric_files_end_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "metrics/systems.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for content, message in (
        ("{", "systems.json: not SystemRow rows"),
        (json.dumps({**document, "schema_version": 9}), "schema_version 9 found, 1 expected"),
        (json.dumps({**document, "rows": [{"env": "alfworld"}]}), "missing"),
        (json.dumps({**document, "rows": []}), "no system was evaluated"),
    ):
        path.write_text(content, encoding="utf-8")
        assert report.main() == 1
        assert message in capsys.readouterr().err
    path.unlink()
    assert report.main() == 1
    assert "systems.json: No such file or directory; run `dvc repro metrics`" in capsys.readouterr().err
    assert not (folder / "report").exists()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (words.percent(None), words.DASH),
        (words.percent(1 / 3), "33.3 %"),
        (words.p_value(0.0004), "< 0.001"),
        (words.p_value(0.0312), "0.031"),
        (words.signed(-0.125, "success"), f"{words.MINUS}12.5"),
        (words.signed(3.14, "score"), "+3.1"),
        (words.signed(-1234.4, "tokens"), f"{words.MINUS}1,234"),
        (words.listed(["a"]), "a"),
        (words.listed(["a", "b", "c"]), "a, b and c"),
        (words.listed([]), ""),
    ],
)
def test_figures_as_a_reader_sees_them(shown: str, expected: str) -> None:
    assert shown == expected
