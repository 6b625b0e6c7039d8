"""Each system is shown the hints that its name says: those of other categories, hand-written ones, a student's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from household import hint_of
from structure import ROOT

from stages.core import plugins
from stages.core.arms import SYSTEMS
from stages.core.params import Cell, load
from stages.core.records import BankEntry
from stages.evaluate import system_of
from stages.hinting.alfworld.rules import TIERS
from stages.hinting.bank import build_bank
from stages.retrieval import oracle
from stages.retrieval.oracle import OracleError, read_oracle
from stages.retrieval.retriever import Retrieved, Retriever, Start, open_retriever
from stages.runner.study import StudyError
from stages.teacher import run as play_teacher

SEARCH, OPEN, LOOK = "Search every place before you give up.", "Open what is closed.", "Look at the lamp, then use it."
TOOLS = {name: f"Go to the tool for it and '{name} {{object}} with {{tool}}'." for name in ("heat", "cool", "clean")}


def bank() -> list[BankEntry]:
    """Four categories: a tool each in three of them, advice that two share, and some of one alone."""
    hints = [hint_of(text, f"{n}|{name}", name, "tool_verified") for name, text in TOOLS.items() for n in range(2)]
    hints += [hint_of(SEARCH, name, name) for name in ("heat", "cool")]
    return build_bank([*hints, hint_of(OPEN, "o", "clean"), hint_of(LOOK, "l", "examine")], 0.85, TIERS)


def shown(system: str, category: str, k: int = 3, seed: int = 0, task: str = "t1") -> Retrieved:
    found = Retriever(system, bank(), k, seed).retrieve(
        Start(task, category, "put a egg in shelf", "You are in a room.")
    )
    assert isinstance(found, Retrieved)
    return found


def test_wrong_hints_are_the_first_ones_of_other_categories() -> None:
    first = {TOOLS["cool"], TOOLS["clean"], LOOK}
    for n in range(20):
        assert set(shown("rag_wrong", "heat", task=f"t{n}").texts) == first
    assert set(shown("rag_wrong", "heat", 9).texts) == {*first, OPEN}  # and no advice that heating has too
    assert set(shown("rag_wrong", "examine", 9).texts) == {*TOOLS.values(), SEARCH, OPEN}
    by_id = {entry.entry_id: entry for entry in bank()}
    found = shown("rag_wrong", "heat", 9)
    assert [by_id[name].text for name in found.entry_ids] == list(found.texts)
    assert {by_id[name].category for name in found.entry_ids} == {"cool", "clean", "examine"}


def test_which_wrong_hints_come_first_depends_on_task_and_seed_alone() -> None:
    drawn = {f"t{n}": shown("rag_wrong", "heat", 1, task=f"t{n}").texts for n in range(20)}
    assert drawn == {task: shown("rag_wrong", "heat", 1, task=task).texts for task in drawn}
    assert len(set(drawn.values())) > 1
    assert drawn != {task: shown("rag_wrong", "heat", 1, seed=1, task=task).texts for task in drawn}


def test_a_bank_of_one_category_has_no_wrong_hints_and_says_so() -> None:
    alone = Retriever("rag_wrong", [entry for entry in bank() if entry.category == "heat"], 3, 0)
    assert alone.retrieve(Start("t1", "heat", "", "")) == Retrieved()
    assert alone.shortfalls({"heat": 4}) == [
        "every category but heat together has no hints, and hints.k asks for 3: 4 tasks are shown fewer"
    ]
    assert Retriever("rag_wrong", bank(), 4, 0).shortfalls({"heat": 4, "cool": 1, "examine": 9}) == []


@pytest.mark.parametrize("env", ["alfworld", "webshop"])
def test_hand_written_hints_are_short_marked_and_there_for_every_category(env: str) -> None:
    cell = Cell(f"{env}_react")
    entries = read_oracle(cell)
    hints = load(ROOT / "params.yaml").hints
    categories = plugins.environment(env).categories or ("any department",)
    retriever = open_retriever("oracle", cell, hints, 0)
    assert retriever.shortfalls(dict.fromkeys(categories, 1)) == []
    assert {e.category for e in entries} <= {*categories, "any"}
    assert all(e.entry_id.startswith("oracle-") and e.origin == "oracle" and not e.hint_ids for e in entries)
    assert all(len(e.text) <= hints.max_chars for e in entries) and len({e.entry_id for e in entries}) == len(entries)
    for category in categories:
        found = retriever.retrieve(Start("t1", category, "", ""))
        assert isinstance(found, Retrieved) and len(found.texts) == hints.k
        own = [e.text for e in entries if e.category == category]
        assert list(found.texts[: len(own)]) == own
        assert all(name.startswith("oracle-") for name in found.entry_ids)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("heat: [", "not readable as YAML"),
        ("", "expected lists of hints by category, found None"),
        ("- a hint", "expected lists of hints by category, found ['a hint']"),
        ("heat: Heat it.", "heat: expected a list of hints, found 'Heat it.'"),
        ("heat: [Heat it., 3]", "heat: expected a list of hints, found ['Heat it.', 3]"),
        ("heat: []", "heat: expected a list of hints, found []"),
    ],
)
def test_an_unusable_file_of_hints_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    file = tmp_path / "oracle.yaml"
    file.write_text(text, encoding="utf-8")
    spec = replace(plugins.environment("alfworld"), oracle=file)
    monkeypatch.setattr(oracle.plugins, "environment", lambda env: spec)
    with pytest.raises(OracleError) as fault:
        read_oracle(Cell("alfworld_react"))
    assert str(fault.value).startswith(f"{file}: {said}") and "\n" not in str(fault.value)


def test_an_environment_without_hand_written_hints_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(plugins.environment("alfworld"), oracle=None)
    monkeypatch.setattr(oracle.plugins, "environment", lambda env: spec)
    with pytest.raises(OracleError, match="alfworld has no hints written by hand; write some"):
        read_oracle(Cell("alfworld_react"))


def test_a_system_is_its_arms_student_with_the_hints_that_its_name_says() -> None:
    students = Path("data/students")
    for name in SYSTEMS:
        found = system_of("alfworld_react", name, 2)
        assert found.name == name and found.retrieval == SYSTEMS[name].retrieval
        arm = SYSTEMS[name].arm
        assert found.adapter == (students / f"alfworld_react_{arm}_s2/adapter" if arm else None)
        assert found.seed == (2 if arm else 0)
    with pytest.raises(StudyError, match="there is no system 'hinted_rag', only base, rag"):
        system_of("alfworld_react", "hinted_rag", 0)


def test_a_teacher_with_an_unknown_retrieval_is_refused() -> None:
    with pytest.raises(StudyError, match="there is no retrieval 'best', only rag, constant, random, rag_wrong, oracle"):
        play_teacher("alfworld_react", "best")
