"""The report shows what the metric files and episodes say, whatever of it is missing, and the same bytes each time."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fake_study import SHA, broken, run
from made_report import (
    CELL,
    EVIL,
    STUDY,
    at_the_root,
    cell_of,
    funnel,
    hostile,
    known,
    system,
    whole_study,
    write_study,
)

from stages import report
from stages.core.text import visible
from stages.reporting import cells, tables, words
from stages.reporting.verdict import verdict
from stages.stats.systems import Study


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_study(tmp_path, whole_study(), [funnel()])
    return at_the_root(tmp_path, monkeypatch)


def text_of(name: str) -> str:
    return Path("report", name).read_text(encoding="utf-8")


def set_of(name: str) -> dict[str, Any]:
    """A set of episodes as the browser unpacks it."""
    found = re.fullmatch(r'receiveEpisodes\("([^"]+)","([^"]+)"\);\n', text_of(f"episodes/{name}.js"))
    assert found and found[1] == name
    content: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found[2])))
    return content


def test_figures_of_official_tasks_are_not_called_generated(tmp_path: Path) -> None:
    for source, said in (("generated", True), ("official (json_2.1.2; 134 valid_unseen)", False)):
        write_study(tmp_path, whole_study(), [funnel()], dataclasses.replace(STUDY, panel_source=source))
        assert ("no benchmark numbers" in cells.warning([cell_of(tmp_path)])) == said
        assert source in {line[2] for line in tables.panels([cell_of(tmp_path)]).lines}


class Page(HTMLParser):
    """Ids, tag balance and addresses of a page."""

    VOID = frozenset({"meta", "br", "link", "img", "path", "rect", "use", "line", "circle", "input"})

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


def test_the_pages_hold_the_figures_and_need_nothing_from_elsewhere(folder: Path) -> None:
    assert report.main() == 0
    for name in ("index.html", "episodes.html"):
        page = Page(text_of(name))
        assert page.open == []
        assert len(set(page.ids)) == len(page.ids)
        files = {address.partition("#")[0] for address in page.addresses} - {""}
        assert all((folder / "report" / file).is_file() for file in files)
    text = text_of("index.html")
    assert "<script" not in text and "@import" not in text
    assert text.count("<svg") == 6
    assert "currentColor" in text and "#010203" not in text
    for said in (
        "must not be compared with published ones",
        "Withheld skills (full): heat, never shown in the warm-up.",
        "Model: tiny. Engine: cpu.",
        "100.0 %",
        SHA["test"],
        SHA["train"],
        "c0ffee",
        f"distilled {words.MINUS} sft (primary)",
        "0 of 12 failed",
        "distilled: 3 too many refusals",
    ):
        assert said in text, said


def test_the_same_inputs_give_the_same_bytes_and_nothing_old_stays(folder: Path) -> None:
    report.main()
    first = {p: p.read_bytes() for p in (folder / "report").rglob("*.*")}
    (folder / "report/figures/of_another_study.svg").touch()
    report.main()
    assert first == {p: p.read_bytes() for p in (folder / "report").rglob("*.*")}
    assert not any(re.search(rb"\b20\d\d-\d\d-\d\d", content) for content in first.values())


def test_the_markdown_is_two_pages_of_even_tables(folder: Path) -> None:
    report.main()
    lines = text_of("report.md").splitlines()
    assert len(lines) <= 66
    for before, line in itertools.pairwise(lines):
        if before.startswith("|") and line.startswith("|"):
            assert before.count("|") == line.count("|")
    assert any(
        re.match(r"\| distilled against sft \(primary\) \| \+50\.0 \(.* to .*\) \| 0\.031 \| better", x) for x in lines
    )


def test_systems_stand_in_the_reports_order_with_their_figures(folder: Path) -> None:
    cell = cell_of(folder)
    table = tables.headline(cell, cell.systems)
    assert [line[0] for line in table.lines] == ["base agent", "with hints (rag)", "own successes (sft)", "distilled"]
    rag = dict(zip(table.columns, table.lines[1], strict=True))
    assert rag["Solved (95 %)"] == f"100.0 % (76{words.DASH}100)"
    assert rag["Known skills"] == rag["Withheld skills"] == "6/6" and rag["Tokens an episode"] == "310"
    took = {line[0]: line[2] for line in tables.effort(cell, cell.systems).lines}
    assert (took["Tokens for the choice of hints"], took["Tokens a success"], took["Tasks counted"]) == (
        "50",
        "310",
        "12",
    )
    assert (took["Computed tokens an episode"], took["Refused turns"]) == ("130", "50.0 %")


def test_the_primary_contrast_is_marked_and_comes_first(folder: Path) -> None:
    cell = cell_of(folder)
    table = tables.contrasts_by_metric(cell.contrasts)[0]
    (marked,) = table.marked
    line = dict(zip(table.columns, table.lines[marked], strict=True))
    assert line["Contrast"] == f"distilled {words.MINUS} sft (primary)"
    assert line["Difference (95 %)"].startswith("+50.0 (")
    assert (line["p"], line["Holm p"], line["Only one solved"]) == ("0.031", words.DASH, "6 : 0")
    found = verdict(cell).differences
    assert found and found.marked == {0} and found.lines[0][2:] == ["0.031", "better"]
    assert "12 paired tasks, 1 training seed" in found.note


@pytest.mark.parametrize("names", [("base",), ("base", "rag"), ("base", "rag", "distilled"), ("base", "sft"), ("sft",)])
def test_a_report_with_systems_missing_says_what_it_cannot_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    at_the_root(tmp_path, monkeypatch)
    write_study(tmp_path, [system(name) for name in names], [])
    found = verdict(cell_of(tmp_path))
    assert found.tone == "open" and "not evaluated" in found.answer
    assert report.main() == 0
    assert found.answer in text_of("index.html") and found.answer in text_of("report.md")
    assert [column["key"] for column in set_of(f"{CELL}.test")["columns"]] == list(names)
    assert not Path(f"report/episodes/{CELL}.train.js").exists()


def test_break_even_divides_what_was_spent_by_what_is_saved(folder: Path) -> None:
    teacher, lessons, epochs, saved = 12 * 310, 12 * 50, 2, 50
    assert cells.break_even(cell_of(folder)) == pytest.approx((teacher + lessons * epochs) / saved)
    assert "paid back against hints after 98 episodes" in dict(verdict(cell_of(folder)).points)["Cost"]


def test_the_funnels_stations_follow_its_counts() -> None:
    assert [(name, number) for name, number, _ in tables.way(funnel())] == [
        ("Episodes", "12"),
        ("Failures", "6"),
        ("Hints", "2"),
        ("Bank", "1"),
        ("Teacher successes", "12"),
        ("Lessons, sft", "1"),
        ("Lessons, distilled", "12"),
    ]
    assert tables.rules(funnel()).lines == [["refused", "1", "12/12"], ["unused_action", "1", "12/12"]]


def test_episodes_stand_side_by_side_and_lessons_lead_back_to_failures(folder: Path) -> None:
    report.main()
    played = set_of(f"{CELL}.test")
    columns = {column["key"]: column["episodes"] for column in played["columns"]}
    at = [task["id"] for task in played["tasks"]].index("heat-0")
    assert played["tasks"][at] | {"opening": ""} == {
        **{"id": "heat-0", "category": "heat", "skill": "withheld", "goal": "put it there", "opening": ""}
    }
    assert [columns[key][at]["outcome"] for key in ("base", "rag")] == ["failed", "solved"]
    assert columns["rag"][at]["hints"] == [["b1", "Heat it.", 2]]
    assert columns["rag"][at]["turns"][1] == {"thought": "It must be hot.", "action": "heat", "seen": "It is hot."}
    assert columns["base"][at]["turns"][1]["refused"] == 1

    train = set_of(f"{CELL}.train")
    taught = next(x for x in train["lessons"] if x["arm"] == "distilled" and x["task"] == "heat-0")
    assert (taught["from"], taught["students"], taught["entries"]) == ("teacher", ["distilled_s0"], ["b1"])
    sources = [train["hints"][name] for name in train["entries"]["b1"]["hints"]]
    assert [source["task"] for source in sources] == ["heat-0", "heat-1"]
    [own] = [x for x in train["lessons"] if x["arm"] == "sft"]
    assert (own["from"], own["entries"]) == ("base", [])


def test_one_system_alone_makes_a_report_that_claims_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_root(tmp_path, monkeypatch)
    write_study(tmp_path, [run("base", lambda t, c: False)], [], Study())
    assert report.main() == 0
    text = text_of("index.html")
    assert text.count("<svg") == 3
    assert "No skill was withheld" in text
    assert "Paired contrasts" not in text and "benchmark" not in text and "Lesson gates" not in text


def test_seeds_are_told_apart_and_weaker_evidence_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_root(tmp_path, monkeypatch)
    runs = [run(arm, known, seed=seed) for arm in ("sft", "distilled") for seed in (0, 1)]
    write_study(tmp_path, runs, [], dataclasses.replace(STUDY, strength="hinted_only"))
    assert report.main() == 0
    text = text_of("report.md")
    assert "distilled, seed 1" in text and "2 training seeds" in text and "sign-flip permutation" in text
    assert "only together with their hint, which is weaker evidence" in text
    assert "Withheld skills (hinted\\_only)" in text or "Withheld skills (hinted_only)" in text
    assert [column["key"] for column in set_of(f"{CELL}.test")["columns"]] == [
        *("sft_s0", "sft_s1", "distilled_s0", "distilled_s1")
    ]
    assert "distilled_s0 solves, sft_s0 fails" in text_of("index.html")


def test_machine_failures_are_told_and_are_no_failures_of_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_root(tmp_path, monkeypatch)
    first, *others = run("base", known)
    write_study(tmp_path, [[dataclasses.replace(broken(first), opening="", turns=[]), *others], system("rag")], [])
    assert report.main() == 0
    assert "Machine failures, left out of all figures: base agent 1." in text_of("index.html")
    found = set_of(f"{CELL}.test")
    assert found["columns"][0]["episodes"][0]["outcome"] == "machine"
    assert found["columns"][0]["episodes"][0]["stop"] == "engine down"
    assert found["tasks"][0]["opening"] == "You are in a room."


def test_whatever_a_model_wrote_is_shown_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_the_root(tmp_path, monkeypatch)
    write_study(tmp_path, [hostile("base"), hostile("rag")], [])
    assert report.main() == 0
    for file in Path("report").rglob("*.*"):
        text = file.read_text(encoding="utf-8")
        assert "\x1b" not in text and "<script>alert" not in text and "<img" not in text, file
    assert "&lt;script&gt;alert" in text_of("index.html")
    assert r"&lt;script>alert('no')&lt;/script>" in text_of("report.md") and r"\`x\` \[a\](b)" in text_of("report.md")
    turn = set_of(f"{CELL}.test")["columns"][0]["episodes"][0]["turns"][0]
    assert turn["seen"] == turn["action"] == EVIL.replace("\x1b", "\N{REPLACEMENT CHARACTER}")


def test_what_steers_a_page_or_terminal_is_replaced_and_white_space_is_a_space() -> None:
    assert visible("a\tb\xa0c\u2009d\r\ne é 猫") == "a b c d \ne é 猫"
    assert visible("\x00\x1b\x7f\u202e\u200b\ud800") == "\N{REPLACEMENT CHARACTER}" * 6


def test_model_names_are_for_people_and_stand_in_full_under_provenance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_root(tmp_path, monkeypatch)
    write_study(tmp_path, [run("base", known, model="smol@1a2b"), run("sft", known, model="smol@1a2b+3c4d")], [])
    assert report.main() == 0
    assert "Model: smol. Engine: cpu." in text_of("report.md") and "3c4d" not in text_of("report.md")
    assert "smol@1a2b+3c4d" in text_of("index.html").partition('id="provenance"')[2]


def test_unusable_metric_files_end_in_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "metrics/systems.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for content, message in (
        ("{", "systems.json: not readable (JSONDecodeError("),
        (json.dumps({**document, "rows": [1]}), "systems.json: not SystemRow rows"),
        (json.dumps({**document, "schema_version": 9}), "schema_version 9 found, 1 expected"),
        (json.dumps({**document, "rows": [{"env": "alfworld"}]}), "missing"),
        (json.dumps({**document, "rows": []}), "no system was evaluated"),
    ):
        path.write_text(content, encoding="utf-8")
        assert report.main() == 1
        assert message in capsys.readouterr().err
    path.unlink()
    assert report.main() == 1
    assert "systems.json: No such file or directory; run `dvc repro`" in capsys.readouterr().err
    assert not (folder / "report").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"evals/{CELL}_rag/test.parquet", "no such file; run `dvc repro` (or `dvc checkout`)"),
        (f"teacher/{CELL}/rag/episodes.parquet", "no such file; run `dvc repro` (or `dvc checkout`)"),
        (f"hints/{CELL}/bank.parquet", "no such file; run `dvc repro` (or `dvc checkout`)"),
        (f"students/{CELL}_sft_s0/curve.jsonl", "No such file or directory; run `dvc repro` (or `dvc checkout`)"),
    ],
)
def test_a_missing_file_is_named_with_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    assert report.main() == 0
    before = text_of("index.html")
    (folder / "data" / name).unlink()
    assert report.main() == 1
    said = capsys.readouterr().err
    assert f"data/{name}: {message}" in said and said.count("\n") == 1
    assert text_of("index.html") == before


def test_a_file_of_another_form_or_run_is_named_with_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "data/evals" / f"{CELL}_rag" / "test.parquet"
    frame = pl.read_parquet(path)
    for changed, message in (
        (frame.drop("turns"), "not a table of Episode records; columns that differ: ['turns']; run `dvc repro`"),
        (frame.with_columns(schema_version=pl.lit(9)), "schema_version [9] found, 1 expected; rerun the stage"),
        (frame.with_columns(panel_sha256=pl.lit("f00")), "episodes of panel f00, but the metrics count"),
    ):
        changed.cast({"schema_version": pl.Int64}).write_parquet(path)
        assert report.main() == 1
        assert f"test.parquet: {message}" in capsys.readouterr().err
    (folder / f"data/students/{CELL}_sft_s0/curve.jsonl").write_text('{"step": 1}\n')
    frame.write_parquet(path)
    assert report.main() == 1
    assert "curve.jsonl: not a learning curve" in capsys.readouterr().err


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
