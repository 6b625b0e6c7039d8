"""benchmarks/hints.py: what is compared, what its rows count, and the page that is made of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import fake_study
import hints
import polars as pl
import pytest
from hint_study.choice import reading
from hint_study.conditions import BASE, Condition, conditions, drawn, for_train
from hint_study.page import UNSAID, figure, page, verdict
from hint_study.playing import Panel, rows

from stages.core.params import Cell
from stages.core.process import Fault
from stages.envs.base import Task
from stages.hinting.base import Failure
from stages.reporting.words import DASH

BY_RANK = Condition("rules")
RESULTS = Path(__file__).parents[1] / "studies/hints/results.json"


def failures(number: int) -> list[Failure]:
    return [Failure(fake_study.episode("base", f"heat-{n:02}", "heat", False)) for n in range(number)]


def results() -> dict[str, object]:
    """Of twelve tasks no hints solve the 6 that put something, hints by rank one that heats too, three other hints all."""
    solved = {
        BASE: 6,
        BY_RANK: 7,
        Condition("rules", k=1): 6,
        Condition("rules", scope="bank"): 12,
        **{Condition("rules", 0.5, draw): 8 + draw for draw in (0, 1, 2)},
    }
    plays = {
        condition: [
            fake_study.episode("rag", task, category, place < solved[condition], panel="dev", panel_sha256="d" * 64)
            for place, (task, category) in enumerate(fake_study.TASKS)
        ]
        for condition in solved
    }
    origin = {"cell": "alfworld_react", "git_commit": "c" * 40, "machine": "AVX2"}
    bank = {"cell": "alfworld_react", "writer": "rules", "failures": 6, "hints": 9, "write_tokens": 0}
    return {
        "rows": [origin | row for row in rows(plays, ["heat"], graded=False)],
        "choices": [
            {
                **{"cell": "alfworld_react", "panel": "dev", "writer": "rules", "retrieval": "bm25", "scope": "bank"},
                **{"k": 3, "tasks": 6, "wanted": 6, "shown": 5, "all": 5, "first": 4, "others": 0.5},
            }
        ],
        "banks": [
            {**bank, "share": 1.0, "draw": 0, "entries": 4, "rejected": {"long": 2}},
            {**bank, "share": 0.5, "draw": 0, "entries": 3, "rejected": {}},
            {**bank, "share": 0.5, "draw": 1, "entries": 2, "rejected": {"long": 1}},
        ],
        "skipped": ["dense: not installed"],
    }


def test_every_way_and_number_is_played_once_with_the_rules_hints() -> None:
    played = conditions()
    assert len(set(played)) == len(played)
    whole = [c for c in played if c.writer == "rules" and c.share == 1 and c.scope == "category" and c.way != "llm"]
    assert {(c.way, c.k) for c in whole} == {(w, k) for w in ("rank", "bm25", "dense") for k in (1, 3, 6, 9)}
    assert Counter(c.share for c in played if c.writer == "rules")[0.25] == 3
    assert {(c.way, c.k) for c in played if c.writer == "self"} == {(w, k) for w in ("rank", "bm25") for k in (1, 3)}


def test_the_train_panel_is_played_with_three_hints_or_none_and_without_questions() -> None:
    played = for_train(conditions())
    assert {c.k for c in played} == {0, 3}
    assert BASE in played and BY_RANK in played
    assert "llm" not in {c.way for c in played}


def test_a_smaller_share_of_the_failures_lies_within_a_larger_one() -> None:
    failed = failures(13)
    for draw in (0, 1):
        half, quarter = (drawn(failed, share, draw) for share in (0.5, 0.25))
        assert (len(half), len(quarter)) == (7, 4)
        assert [f for f in failed if f in half] == half, "they keep their order"
        assert all(failure in half for failure in quarter)
    assert drawn(failed, 0.5, 0) == drawn(failed[::-1], 0.5, 0)[::-1], "the seed draws, not the order"
    assert drawn(failed, 0.5, 0) != drawn(failed, 0.5, 1)
    assert drawn(failed, 1.0, 2) == failed


def test_rows_count_successes_by_skill_and_compare_them_with_no_hints() -> None:
    base = fake_study.run("base", lambda task, category: category == "put", panel="dev")
    hinted = fake_study.run("rag", lambda task, category: task != "put-0", panel="dev", hints=["Heat it."])
    first, second = rows({BASE: base, BY_RANK: hinted}, ["heat"], graded=True)
    assert (first["writer"], first["k"], first["solved"], first["p"]) == ("none", 0, 6, 1.0)
    assert (second["n"], second["solved"], second["only_here"], second["only_base"]) == (12, 11, 6, 1)
    assert second["p"] == pytest.approx(0.125)
    assert (second["known"], second["withheld"]) == ({"n": 6, "solved": 5}, {"n": 6, "solved": 6})
    assert second["score"] == pytest.approx(100 * 11 / 12)
    assert (second["hints_shown"], second["hint_tokens"], second["tokens"]) == (1.0, 0.0, 260.0)


def test_the_page_has_a_line_for_each_writer_and_way_and_a_column_for_each_k() -> None:
    text = page(results(), "")
    lines = text.splitlines()
    at = lines.index("| hints | k = 1 | k = 3 | withheld, k = 3 | p | hint tokens | tokens an episode |")
    assert lines[at + 2 : at + 6] == [
        f"| none | **6** (25{DASH}75) |  | 0 of 6 | {DASH} | {DASH} | 260 |",
        "| rules, rank | 6 | 7 | 1 of 6 | 1.000 | 0 | 260 |",
        f"| rules, rank, whole bank | {DASH} | 12 | 6 of 6 | 0.031 | 0 | 260 |",
        f"| rules, rank, 50 % of failures | {DASH} | 8, 9, 10 | 2 of 6, 3 of 6, 4 of 6 | 0.500, 0.250, 0.125 | 0, 0, 0 | 260, 260, 260 |",
    ]
    assert "| dev | rules, bm25, whole bank | 5 of 6 | 5 of 6 | 4 of 6 | 0.50 |" in lines
    assert "| rules | 6 | 9, 9 | long 1 | 3, 2 | 0 |" in lines
    assert lines[-1] == "- dense: not installed"


def test_what_people_wrote_between_the_marks_outlives_a_new_page() -> None:
    fresh = page(results(), "")
    assert UNSAID in fresh
    edited = fresh.replace(UNSAID, "It matters that a hint\n\nfits.").replace("rules, rank", "mine")
    again = page(results(), edited)
    assert again == fresh.replace(UNSAID, "It matters that a hint\n\nfits.")
    assert verdict(again).splitlines()[1:-1] == ["It matters that a hint", "", "fits."]


def test_the_figure_names_every_line_and_is_the_same_each_time() -> None:
    drawn_once = figure(results())
    assert drawn_once == figure(results())
    for text in ("ALFWorld", "rules, rank", "k = 9", "no hints"):
        assert f">{text}<" in drawn_once


def test_a_page_without_results_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"results\.json: not readable .*; run this without --page"):
        hints.show(tmp_path)


def test_a_household_task_wants_the_tool_of_its_category() -> None:
    wants, names = reading(Panel(Cell("alfworld_react"), "dev", Path(), "", [], []))
    task = Task("t", "alfworld", "dev", "heat", "put a hot egg in fridge", {})
    assert wants(task) == {"microwave"}
    assert wants(Task("t", "alfworld", "dev", "put", "put an egg in fridge", {})) == frozenset()
    assert names("Go to {microwave}, not to the {fridge}.") == {"microwave", "fridge"}


def test_a_shop_task_wants_the_groups_of_the_options_that_it_names(tmp_path: Path) -> None:
    product = {"asin": "B1", "groups": ["color", "size"], "values": [["red", "blue"], ["small", "large"]]}
    pl.DataFrame([product]).write_parquet(tmp_path / "catalogue.parquet")
    spec = {"catalogue": "catalogue.parquet", "asin": "B1", "options": ["blue"]}
    task = Task("t", "webshop", "dev", "fashion", "a blue shirt", spec)
    wants, names = reading(Panel(Cell("webshop_act"), "dev", tmp_path, "", [task], []))
    assert wants(task) == {"color"}
    assert names("Click the {color} and the {size} that the instruction names.") == {"color", "size"}


def test_a_task_to_examine_wants_a_lamp() -> None:
    wants, names = reading(Panel(Cell("alfworld_react"), "dev", Path(), "", [], []))
    assert wants(Task("t", "alfworld", "dev", "examine", "look at an egg under the desklamp", {})) == {"lamp"}
    assert names("Then use {desklamp}.") == {"lamp"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--limit", "0", "--out", "there"], "--limit: expected 1 task or more, found 0"),
        (["--limit", "-1", "--out", "there"], "--limit: expected 1 task or more, found -1"),
        (["--limit", "2"], "name another folder with --out"),
        (["--limit", "2", "--out", "./studies/hints/"], "name another folder with --out"),
    ],
)
def test_a_trial_never_replaces_the_study(
    options: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["hints.py", *options])
    monkeypatch.setattr(hints, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit, match="2"):
        hints.main()
    assert said in capsys.readouterr().err


def test_the_page_of_a_trial_says_so() -> None:
    whole, trial = page(results(), ""), page(results() | {"limit": 2}, "")
    assert page(results() | {"limit": None}, "") == whole
    assert "at most" not in whole
    assert "**Not the whole study: at most 2 tasks of each panel.**\n\n<!-- verdict -->" in trial
    assert "    python benchmarks/hints.py --limit 2 --out FOLDER\n" in trial


def test_the_committed_page_shows_the_committed_results() -> None:
    committed = RESULTS.with_name("README.md").read_text(encoding="utf-8")
    assert committed == page(json.loads(RESULTS.read_text(encoding="utf-8")), committed)
