"""The bank merges, counts and ranks; retrieval picks from it as each system should."""

from __future__ import annotations

import pytest
from household import hint_of

from stages.core.records import BankEntry, Hint
from stages.hinting.alfworld.rules import TIERS
from stages.hinting.bank import build_bank, normalise
from stages.retrieval.retriever import Retrieved, Retriever, Start

SEARCH = "Search every place for {object} before you give up."
SEARCH_TOO = "Search every place for {object} before giving up."
OPEN = "If {receptacle} is closed, open it and look inside."
TOOL = "Take {object} to {zapper} and 'zap {object} with {zapper}'."


def hints(text: str, count: int, category: str = "zap", rule: str = "refused") -> list[Hint]:
    return [hint_of(text, f"{i}|{text}", category, rule) for i in range(count)]


def test_normalised_texts_forget_case_numbers_and_signs() -> None:
    assert normalise("Don't  go to {Shelf} 2, ever!") == "dont go to {shelf} ever"


def test_near_duplicates_merge_under_the_most_frequent_wording() -> None:
    given = hints(SEARCH_TOO, 3) + hints(SEARCH, 2) + hints(OPEN, 1)
    first, second = build_bank(given, 0.85, TIERS)
    assert (first.text, first.count, first.rank) == (SEARCH_TOO, 5, 1)
    assert (second.text, second.count, second.rank) == (OPEN, 1, 2)
    assert first.hint_ids == sorted(hint.hint_id for hint in given[:5])
    assert first.episode_ids == sorted(hint.episode_id for hint in given[:5])


def test_the_ratio_decides_what_is_near() -> None:
    assert [e.count for e in build_bank(hints(SEARCH, 2) + hints(SEARCH_TOO, 1), 0.99, TIERS)] == [2, 1]


def test_different_placeholders_are_different_lessons() -> None:
    under = "Carry {object} to the place of {desklamp} and use it."
    assert len(build_bank(hints(under, 1) + hints(under.replace("desk", "floor"), 1), 0.5, TIERS)) == 2


def test_categories_are_kept_apart_and_ranked_alone() -> None:
    bank = build_bank(hints(SEARCH, 1, "put") + hints(SEARCH, 2, "clean") + hints(OPEN, 3, "clean"), 0.85, TIERS)
    assert [(e.category, e.rank, e.count) for e in bank] == [("clean", 1, 3), ("clean", 2, 2), ("put", 1, 1)]
    assert len({e.entry_id for e in bank}) == 3


def test_a_proven_tool_outranks_frequent_advice_then_count_then_text() -> None:
    given = hints(OPEN, 5) + hints(SEARCH, 5) + hints(TOOL, 1, rule="tool_verified")
    assert [e.text for e in build_bank(given, 0.85, TIERS)] == [TOOL, OPEN, SEARCH]


def test_the_order_of_the_hints_does_not_matter() -> None:
    given = hints(SEARCH_TOO, 2) + hints(SEARCH, 2) + hints(OPEN, 1)
    assert build_bank(given, 0.85, TIERS) == build_bank(given[::-1], 0.85, TIERS)


def at(task: str, category: str) -> Start:
    return Start(task, category, "put a egg in shelf", "You are in a room.")


def bank_of_three() -> list[BankEntry]:
    zap = hints(OPEN, 4) + hints(SEARCH, 3) + hints(TOOL, 1, rule="tool_verified")
    return build_bank(zap + hints(SEARCH, 2, "put"), 0.85, TIERS)


def test_rag_takes_the_categorys_first() -> None:
    rag = Retriever("rag", bank_of_three(), 2, 0)
    assert rag.retrieve(at("t1", "zap")).texts == (TOOL, OPEN)
    assert rag.retrieve(at("t1", "put")).texts == (SEARCH,)
    assert rag.retrieve(at("t1", "cool")) == Retrieved()
    assert rag.retrieve(at("t1", "zap")).retrieve_tokens == 0


def test_constant_is_the_same_for_every_task_and_counts_over_categories() -> None:
    constant = Retriever("constant", bank_of_three(), 2, 0)
    shown = {constant.retrieve(at(task, category)) for task in "abc" for category in ("zap", "put", "cool")}
    assert [found.texts for found in shown] == [(SEARCH, OPEN)]  # 3 + 2 against 4


def test_random_varies_by_task_and_repeats_by_seed() -> None:
    bank = bank_of_three()
    drawn = {task: Retriever("random", bank, 2, 1).retrieve(at(task, "zap")) for task in map(str, range(20))}
    assert drawn == {task: Retriever("random", bank, 2, 1).retrieve(at(task, "put")) for task in drawn}
    assert len(set(drawn.values())) > 1
    assert all(len(set(found.texts)) == len(found.entry_ids) == 2 for found in drawn.values())
    assert drawn != {task: Retriever("random", bank, 2, 2).retrieve(at(task, "zap")) for task in drawn}


@pytest.mark.parametrize("system", ["base", "", "distilled"])
def test_other_systems_are_shown_nothing(system: str) -> None:
    assert Retriever(system, bank_of_three(), 2, 0).retrieve(at("t1", "zap")) == Retrieved()


def test_entry_ids_lead_back_to_entries() -> None:
    bank = bank_of_three()
    texts = {entry.entry_id: entry.text for entry in bank}
    for system in ("rag", "constant", "random"):
        found = Retriever(system, bank, 3, 0).retrieve(at("t1", "zap"))
        assert tuple(texts[name] for name in found.entry_ids) == found.texts
