"""Arms and systems through the real pipeline, with a tiny model that wins some games by heart; every id can be followed both ways. Hints at random
throw it off, so that there is no arm `distilled_random`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from project import copy_project
from small_study import SMALL, make_study

from stages.core.arms import ARMS, SYSTEMS
from stages.core.records import BankEntry, Episode, Lesson, read
from stages.stats.systems import label

pytestmark = pytest.mark.slow

CELL = "alfworld_react"
EVERYTHING = """
axes:
  cell: [alfworld_react]
  arm: [sft, distilled, hinted, on_policy]
  teacher: [rag]
  retrieval: [rag, constant, random, rag_wrong, oracle]
  aided: [distilled]
lessons: {match: lessons, known: 0.25}
"""
TAUGHT = [arm for arm in ARMS if arm != "distilled_random"]
STUDIED = [name for name in SYSTEMS if name in TAUGHT or not SYSTEMS[name].arm] + ["distilled_rag"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The finished study, which is the working directory."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("study")
        copy_project(folder, patch)
        axes = "\naxes: {cell: [alfworld_react]}\n"
        assert axes in SMALL
        make_study(SMALL.replace(axes, EVERYTHING))
        yield folder


@pytest.fixture(autouse=True)
def there(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)


def episodes(folder: str) -> dict[str, Episode]:
    return {e.episode_id: e for e in read(Path("data", folder, "episodes.parquet"), Episode)}


def bank() -> dict[str, BankEntry]:
    return {entry.entry_id: entry for entry in read(Path("data/hints", CELL, "bank.parquet"), BankEntry)}


def lessons(arm: str) -> tuple[list[Lesson], dict[str, Any]]:
    folder = Path("data/lessons", f"{CELL}_{arm}")
    return read(folder / "lessons.parquet", Lesson), json.loads((folder / "gates.json").read_text())


def test_every_lesson_leads_to_its_episode_and_the_bank() -> None:
    own, entries = episodes(f"rollouts/{CELL}"), bank()
    for arm in TAUGHT:
        how, (found, _) = ARMS[arm], lessons(arm)
        taught = how.teacher is not None and how.learning == "sft"
        played = episodes(f"teacher/{CELL}/{how.teacher}") if taught else own
        assert found, arm
        for lesson in found:
            source = played.get(lesson.episode_id) or own[lesson.episode_id]
            assert (source.task_id, source.category, source.panel) == (lesson.task_id, lesson.category, "train")
            assert set(lesson.hint_ids) <= entries.keys()
            assert source.success or how.learning == "on_policy"
            if how.learning == "on_policy":
                [twin] = [e for e in episodes(f"teacher/{CELL}/rag").values() if e.task_id == lesson.task_id]
                assert lesson.hint_ids == twin.hint_ids
            else:
                assert lesson.hint_ids == source.hint_ids


def test_all_arms_have_one_budget_and_every_gate_was_passed() -> None:
    sizes = {arm: len(lessons(arm)[0]) for arm in TAUGHT}
    assert len(set(sizes.values())) == 1
    for arm in TAUGHT:
        _, report = lessons(arm)
        assert report["matched"] == {"by": "lessons", "budget": sizes[arm], "arms": sizes}
        assert {counts["failed"] for counts in report["gates"].values()} == {0}
        student = json.loads(Path(f"data/students/{CELL}_{arm}_s0/student.json").read_text())
        assert student["lessons"] == sizes[arm]
        assert student["loss"] == ("forward_kl" if arm == "on_policy" else "likelihood")
    assert json.loads(Path("metrics/funnel.json").read_text())["rows"][0]["matched"] == "lessons"


def test_every_system_was_shown_the_hints_that_its_name_says() -> None:
    entries = bank()
    for name in STUDIED:
        played = read(Path(f"data/evals/{CELL}_{label(name, 0)}/test.parquet"), Episode)
        assert {e.system for e in played} == {name}
        shown = [(e.category, hint) for e in played for hint in e.hint_ids]
        assert bool(shown) == bool(SYSTEMS[name].retrieval), name
        if name == "oracle":
            assert all(hint.startswith("oracle-") for _, hint in shown)
        elif SYSTEMS[name].retrieval in ("rag", "rag_wrong"):
            wrong = SYSTEMS[name].retrieval == "rag_wrong"
            assert all((entries[hint].category != category) == wrong for category, hint in shown), name


def test_metrics_and_report_have_every_system() -> None:
    rows = json.loads(Path("metrics/systems.json").read_text())["rows"]
    assert {row["system"] for row in rows} == set(STUDIED)
    assert Path("report/episodes.html").is_file()
    pairs = {(row["a"], row["b"]) for row in json.loads(Path("metrics/contrasts.json").read_text())["rows"]}
    assert {("on_policy", "distilled"), ("rag", "rag_wrong"), ("distilled_rag", "distilled")} <= pairs
