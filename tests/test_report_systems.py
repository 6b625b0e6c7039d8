"""Every arm and system has its place in report, metrics and MLflow."""

from __future__ import annotations

import dataclasses
import html
from pathlib import Path

import pytest
from fake_study import lesson, run
from made_report import CELL, at_the_root, everything, funnel, known, system, write_study
from test_report import set_of, text_of

from stages import report
from stages.core.arms import ARMS, SYSTEMS, Retrieval, teachers
from stages.core.records import Episode, Lesson, write
from stages.reporting import figures, tables, words
from stages.stats.contrasts import PAIRS, contrast_rows
from stages.stats.funnel import FunnelRow
from stages.stats.systems import STUDENTS, UNHINTED, Study, label, system_row
from stages.tracking.cards import family, model_card
from stages.tracking.study import Contender


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of every system, its lessons matched by number; of the students that only play with hints there are no weights."""
    runs = [run(name, everything if "oracle" in name else known) for name in SYSTEMS]
    counts = dict.fromkeys(ARMS, 1)
    others: dict[Retrieval, list[Episode]] = {"random": system("random", "train")}
    way = dataclasses.replace(
        funnel(others=others),
        **dict.fromkeys(("lessons", "lesson_tokens", "trained_tokens"), counts),
        gates={arm: {} for arm in ARMS},
        dropped={arm: {"matched": 2} for arm in ARMS},
        matched="lessons",
    )
    write_study(tmp_path, runs, [way])
    write(tmp_path / "data/teacher" / CELL / "random/episodes.parquet", Episode, system("random", "train"))
    for arm, played in zip(ARMS, ("base", "rag", "random", "rag", "base"), strict=True):
        made = dataclasses.replace(lesson(arm, "put-1", "put"), episode_id=f"{played}-put-1")
        write(tmp_path / f"data/lessons/{CELL}_{arm}/lessons.parquet", Lesson, [made])
    return at_the_root(tmp_path, monkeypatch)


def test_a_lesson_leads_back_to_whoever_played_it(folder: Path) -> None:
    assert report.main() == 0
    train = set_of(f"{CELL}.train")
    columns = {column["key"]: column["name"] for column in train["columns"]}
    assert columns == {
        "base": "base agent",
        "teacher": "teacher, with hints",
        "teacher_random": "teacher, with random hints",
    }
    origin = {x["arm"]: (x["from"], x["hints_kept"], x["on_policy"], x["students"]) for x in train["lessons"]}
    assert origin == {
        "sft": ("base", False, False, ["sft_s0"]),
        "distilled": ("teacher", False, False, ["distilled_s0"]),
        "distilled_random": ("teacher_random", False, False, ["distilled_random_s0"]),
        "hinted": ("teacher", True, False, ["hinted_s0"]),
        "on_policy": ("base", False, True, ["on_policy_s0"]),
    }


def test_the_page_names_every_system_and_what_was_matched(folder: Path) -> None:
    assert report.main() == 0
    shown = {column["name"] for column in set_of(f"{CELL}.test")["columns"]}
    assert shown == set(words.SYSTEMS.values())
    for page in ("index.html", "report.md"):
        text = html.unescape(text_of(page)).replace("\\", "")
        assert "The lessons of all arms were cut to the smallest arm's number of lessons (lessons.match)." in text
        assert "oracle were written by hand, knowing the rules of the environment: an upper bound." in text
        assert "distilled against distilled_random" in text and "oracle against rag" in text


def test_a_teacher_with_random_hints_stands_beside_the_other(folder: Path) -> None:
    [way] = report.read_rows(folder / "metrics/funnel.json", "rows", FunnelRow)
    assert list(way.skills) == ["base", "teacher", "teacher_random"] == list(way.machine_failures)
    assert way.skills["teacher_random"] == way.skills["base"] and way.tokens["teacher_random"] == 12 * 260
    assert [line[0] for line in tables.teaching(way).lines] == list(way.skills)


def test_a_missing_teacher_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "data/teacher" / CELL / "random/episodes.parquet").unlink()
    assert report.main() == 1
    assert f"teacher/{CELL}/random/episodes.parquet: no such file" in capsys.readouterr().err


def test_every_system_has_a_name_a_colour_and_a_marker_of_its_own() -> None:
    assert set(words.SYSTEMS) == set(SYSTEMS) and len(set(words.SYSTEMS.values())) == len(SYSTEMS)
    looks = {name: (figures._colour_of(name), figures._marked(name, 0)["marker"]) for name in SYSTEMS}
    assert len(set(looks.values())) == len(SYSTEMS)
    assert figures.INK not in {colour for colour, _ in looks.values()}
    assert {name for pair in PAIRS for name in pair} <= set(SYSTEMS)
    assert set(words.TEACHERS) == set(teachers(ARMS))


def test_what_no_written_bank_is_behind_carries_no_cost_of_writing() -> None:
    study = Study(write_tokens=240)
    written = {name: system_row(run(name, known), study, "").tokens["write"] for name in SYSTEMS}
    assert {name for name, tokens in written.items() if not tokens} == set(UNHINTED) == {"base", "oracle", "sft"}


def test_students_are_paired_by_their_seeds_with_hints_and_without() -> None:
    runs = [run(name, known, seed=seed) for name in ("distilled", "distilled_rag") for seed in (0, 1)]
    rows = contrast_rows([*runs, run("rag", everything)], 100, 3)
    assert {(r.a, r.b, r.seeds) for r in rows} == {
        *(("distilled", "rag", 2), ("distilled_rag", "distilled", 2), ("distilled_rag", "rag", 2))
    }
    assert [label(name, 3) for name in ("rag_wrong", "hinted", "distilled_rag")] == [
        *("rag_wrong", "hinted_s3", "distilled_rag_s3")
    ]


def test_a_student_with_hints_plays_with_anothers_weights() -> None:
    found = {name: Contender("alfworld", "react", name, 1, {"test": {"n": 1}}) for name in SYSTEMS}
    assert {name for name, c in found.items() if c.is_student} == set(ARMS)
    assert {name for name, c in found.items() if c.is_seeded} == set(STUDENTS)
    assert found["distilled_rag"].title == "alfworld react: distilled_rag, seed 1"
    texts = {arm: family(found[arm]) for arm in ARMS}
    assert {arm for arm, text in texts.items() if "They play with hints." in text} == {"hinted"}
    assert len(set(texts.values())) == len(ARMS)
    rows = {"test": {"n": 4, "success": 0.5, "success_low": 0.2, "success_high": 0.8, "tokens_per_episode": 9.0}}
    card = model_card(dataclasses.replace(found["hinted"], rows=rows), "models:/x/1")
    assert "It plays with hints." in card
