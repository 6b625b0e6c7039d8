"""The report sets the paper's figures beside ours where panel, model and budget are the paper's, and else says what differs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from fake_study import episode, lesson

from stages.reporting.cells import CellReport, notes
from stages.reporting.pages import markdown
from stages.reporting.paper import beside, paper
from stages.reporting.words import DASH
from stages.stats.funnel import LessonSet, funnel_row
from stages.stats.systems import Panel, Study, system_row

MODEL = "Qwen/Qwen2.5-14B-Instruct@0123456789ab"
SHOP = "official, all products, goals in the official order, view papers, dialect client, nouns: spacy"
GAMES = "official (json_2.1.2; 3,553 train, 140 valid_seen, 134 valid_unseen; 99 train games left out, whose goals valid_seen or valid_unseen have too)"


PAPERS = Study(panel_source=GAMES, shots=2, max_turns=50, k=3)


def study(**changes: Any) -> Study:
    return dataclasses.replace(PAPERS, **changes)


def dashed(text: str) -> str:
    return text.replace("--", DASH)


def cell(
    env: str = "alfworld",
    agent: str = "react",
    n: int = 134,
    train: int = 1200,
    study: Study = PAPERS,
    model: str = MODEL,
    arms: Mapping[str, LessonSet] = {},
) -> CellReport:
    """A cell of two systems that solve half of `n` test tasks."""

    def run(system: str, panel: str, number: int) -> list[Any]:
        ours = {"env": env, "agent": agent, "panel": panel, "panel_sha256": panel, "model": model}
        return [episode(system, f"{panel}-{i}", "put", i % 2 == 0, **ours) for i in range(number)]

    panel = Panel("train", frozenset(f"train-{i}" for i in range(train)))
    way = funnel_row(panel, run("base", "train", train), run("rag", "train", train), [], [], [], arms, study, 1)
    systems = [system_row(run(name, "test", n), study, "") for name in ("base", "distilled")]
    return CellReport(env, agent, systems, [], [], [], [], way)


def shop(**changes: Any) -> CellReport:
    ours = study(panel_source=SHOP, shots=1, max_turns=14, k=3, graded=True)
    return cell(**{"env": "webshop", "agent": "act", "n": 100, "study": ours, **changes})


def test_the_papers_line_stands_under_ours_where_panel_model_and_budget_are_the_papers() -> None:
    found = beside(cell())
    assert (
        found.said
        == "Panel (the 134 official unseen games), model (Qwen2.5-14B-Instruct, by its name) and budget are the paper's."
    )
    assert found.table is not None
    assert [list(line) for line in found.table.lines] == [
        ["base agent, here", "134", dashed("50.0 % (42--58)"), dashed("--"), "260"],
        ["the paper", "134", dashed("77.6 % (70--84)"), dashed("--"), "47,700"],
        ["distilled, here", "134", dashed("50.0 % (42--58)"), dashed("--"), "260"],
        ["the paper", "134", dashed("92.5 % (87--96)"), dashed("--"), "38,100"],
    ]
    assert "arXiv 2510.01375" in found.table.note


def test_a_score_that_the_paper_reports_without_successes_is_shown_alone() -> None:
    found = beside(shop(model="/models/Qwen2.5-7B-Instruct@0123456789ab"))
    assert found.table is not None
    assert list(found.table.lines[0]) == ["base agent, here", "100", dashed("50.0 % (40--60)"), "50.0", "260"]
    assert list(found.table.lines[1]) == ["the paper", "100", dashed("--"), "44.1", dashed("--")]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (cell(n=133), "Panel: 133 tasks (test; official (json_2.1.2; "),
        (
            cell(study=study(panel_source="generated")),
            "Panel: 134 tasks (test; generated), the paper's are the 134 official",
        ),
        (
            shop(study=study(panel_source="official, nouns: spacy")),
            "Panel: 100 tasks (test; official, nouns: spacy), the paper's",
        ),
        (
            cell(model="Qwen/Qwen2.5-3B-Instruct@0"),
            "Model: Qwen2.5-3B-Instruct, the paper's are Qwen2.5-14B-Instruct and",
        ),
        (
            cell(model="Qwen/Qwen2.5-14B-Instruct (enable_thinking=true)@0"),
            "Model: Qwen2.5-14B-Instruct (enable_thinking=true)",
        ),
        (cell(train=96), "Budget: 96 train tasks (the paper: 1,200)."),
        (
            cell(study=study(max_turns=20, k=1)),
            "Budget: 20 turns an episode (the paper: 50) and 1 hints (the",
        ),
        (cell(study=study(shots=0)), "Budget: 0 worked examples (the paper: 2)."),
        (dataclasses.replace(cell(), funnel=None), "Budget: not known without the train panel."),
        (cell(agent="act"), "which has no figures of this agent here"),
    ],
)
def test_what_differs_is_said_and_no_figure_of_the_paper_is_shown(other: CellReport, said: str) -> None:
    found = beside(other)
    assert found.said.startswith("Not comparable with the paper") and said in found.said and found.table is None
    assert "47,700" not in markdown([other])


def test_the_markdown_report_has_the_papers_lines() -> None:
    text = markdown([cell()])
    assert "### Beside the paper" in text and dashed("| the paper | 134 | 77.6 % (70--84) | -- | 47,700 |") in text


def test_the_papers_figures_are_whole() -> None:
    rows = paper()["rows"]
    keys = [(row["env"], row["agent"], row["model"], row["system"]) for row in rows]
    assert len(set(keys)) == len(keys) == 32
    for row in rows:
        n = paper()["setups"][row["env"]]["n"]
        assert row["success"] is not None or row["score"] is not None
        if row["success"] is not None:  # printed to a tenth of a per cent: a whole number of tasks
            assert abs(row["success"] * n - round(row["success"] * n)) <= n * 0.0005 + 1e-9
        assert (row["score"] is None) == (row["env"] == "alfworld")


# What panels share


OVERLAP: Any = {"panel": "train", "with": "test", "tasks": 1200, "shared": {"product": 276, "text": 34, "goal": 5}}


def lessons(failed: int = 0, dropped: int = 0) -> dict[str, LessonSet]:
    gates = {"no_measured_goal": {"checked": 9, "failed": failed}}
    return {"sft": LessonSet([lesson("sft", "put-1", "put")], gates, {"shared_goal": dropped} if dropped else {})}


def test_the_notes_say_what_panels_share_and_what_became_of_the_lessons() -> None:
    shared = study(overlaps=[OVERLAP])
    said = notes(cell(train=4, study=shared, arms=lessons(dropped=7)))
    assert (
        "Of 1,200 train tasks, these share something with a task of test: 276 the product, 34 the text and 5 the goal."
        in said
    )
    assert "Left out of the lessons, as a dev or test task asks for the same: sft 7." in said
    kept = notes(cell(train=4, study=shared, arms=lessons(failed=7)))
    assert (
        "Kept among the lessons (lessons.shared_goals: keep), though a dev or test task asks for the same: sft 7."
        in kept
    )


def test_the_notes_name_the_rows_that_the_official_reader_skips() -> None:
    said = notes(cell(train=4, study=study(left_out={"no name": 3, "missing fields": 1200}), arms=lessons()))
    [line] = [line for line in said if line.startswith("Rows of the official files left out")]
    assert "3 with no name and 1,200 with missing fields" in line
    assert not any(line.startswith("Rows of the official") for line in notes(cell(train=4, arms=lessons())))


def test_the_notes_of_disjoint_panels_say_so() -> None:
    said = notes(cell(train=4, arms=lessons()))
    assert "The panels have no goal in common." in said
    assert not any("asks for the same" in line for line in said)
