"""People add, replace and remove hints by hand; the bank says so, and what cannot be is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from household import Household, hint_of, play
from rich.console import Console
from structure import ROOT

from stages.core.params import Cell, load
from stages.core.records import BankEntry, Episode, Hint, write
from stages.hinting.bank import build_bank
from stages.hinting.curated import CurationError, Rules, curate, read_curation
from stages.hinting.page import bank_page
from stages.viewing import banks

CELL = Cell("alfworld_react")
RULES = Rules(CELL, ("heat", "put"), 60)
HINTS = [
    hint_of(f"Look at {{place}} {word}.", f"{word}{n}", "put", "unvisited")
    for word, times in (("first", 3), ("last", 1))
    for n in range(times)
]


def bank() -> list[BankEntry]:
    return build_bank(HINTS, 0.99, {})


def curated(tmp_path: Path, text: str, rules: Rules = RULES) -> list[BankEntry]:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return curate(bank(), read_curation(path, rules), path, rules)


def test_hints_are_added_replaced_and_removed_and_say_so(tmp_path: Path) -> None:
    first, last = bank()
    found = curated(
        tmp_path,
        f"alfworld_react:\n  add:\n    put: [Open it., Close it.]\n    heat: ['Use {{microwave}}.']\n"
        f"  replace: {{{first.entry_id[:8]}: Look around.}}\n  remove: [{last.entry_id}]\n",
    )
    assert [(e.category, e.rank, e.text, e.count, e.origin) for e in found] == [
        ("heat", 1, "Use {microwave}.", 0, "curated"),
        ("put", 1, "Open it.", 0, "curated"),
        ("put", 2, "Close it.", 0, "curated"),
        ("put", 3, "Look around.", 3, "curated"),
    ]
    assert (found[3].hint_ids, found[3].episode_ids) == (first.hint_ids, first.episode_ids)
    assert len({e.entry_id for e in found} | {first.entry_id, last.entry_id}) == 6  # another text is another entry


def test_a_text_over_several_lines_becomes_one_row_of_the_page(tmp_path: Path) -> None:
    text = "alfworld_react:\n  add:\n    put:\n      - |\n        Open it,\n        then look.\n"
    [entry] = [e for e in curated(tmp_path, text) if e.origin == "curated"]
    assert entry.text == "Open it, then look."
    assert "\n| 1 | Open it, then look. | 0 hints" in bank_page(CELL, [entry], HINTS, "mine.yaml")


def test_a_file_without_the_cell_changes_nothing(tmp_path: Path) -> None:
    assert curated(tmp_path, "# nothing yet\n") == bank()
    assert curated(tmp_path, "webshop_act:\n  remove: [abc]\n") == bank()
    assert {entry.origin for entry in bank()} == {"written"}


def test_the_file_that_the_study_names_is_there_and_changes_nothing() -> None:
    settings = load(ROOT / "params.yaml")
    for cell in settings.axes.cells:
        curation = read_curation(ROOT / settings.hints.curated, Rules(cell, (), settings.hints.max_chars))
        assert (curation.add, curation.replace, curation.remove) == ({}, {}, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("add: {cook: [Use it.]}", "alfworld_react.add names the category 'cook'; there are heat, put"),
        (f"add: {{put: [{'x' * 61}]}}", "alfworld_react.add.put: 61 characters, hints.max_chars allows 60: 'xxx"),
        ("add: {put: [' \n\n ']}", "alfworld_react.add.put: expected a text, found nothing"),
        ("add: {put: Use it.}", "alfworld_react.add.put: Input should be a valid list, found 'Use it.'"),
        (f"add: {{put: ['{'x' * 30}\n\n    {'y' * 30}']}}", "alfworld_react.add.put: 61 characters"),
        ("remove: [zzz]", "alfworld_react.remove: no entry's id begins with 'zzz' among the bank's 2, such as"),
        ("remove: ['']", "alfworld_react.remove: no entry's id begins with ''"),
        ("remove: [FIRST]\n  replace: {FIRST: Look.}", "names the entry FIRST twice under replace and remove"),
        ("replace: {FIRST: Look., CUT: Go.}", "alfworld_react names the entry FIRST twice under replace and remove"),
        ("remove: [FIRST, CUT]", "alfworld_react names the entry FIRST twice under replace and remove; keep one"),
        ("add: {put: [Look., Look.]}", "the hint 'Look.' stands twice in put; leave one out"),
        (
            'add: {put: ["Look around.\\n", Look  around.]}',
            "the hint 'Look around.' stands twice in put; leave one out",
        ),
        ("add: {put: [Look.]}\n  add: {heat: [Go.]}", 'line 3: found duplicate key "add"; write it once'),
        ("remove: [FIRST]\nalfworld_react: {}", 'line 3: found duplicate key "alfworld_react"; write it once'),
        (
            "remove: []\nalfworld_akt: {}",
            "'alfworld_akt' is no cell: there is no agent 'akt' in stages/agents, only act",
        ),
        ("remove: []\nwebshp_act: {}", "'webshp_act' is no cell: there is no environment 'webshp' in stages/envs"),
        ("remove: []\nwebshop: {}", "'webshop' is no cell: a cell is <environment>_<agent>, such as alfworld_react"),
        ("drop: [FIRST]", "alfworld_react.drop: unknown; a cell has add, replace and remove"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    first = bank()[0].entry_id
    with pytest.raises(CurationError) as fault:
        curated(tmp_path, "alfworld_react:\n  " + text.replace("FIRST", first).replace("CUT", first[:9]))
    assert said.replace("FIRST", first) in str(fault.value)
    assert str(fault.value).startswith(str(tmp_path / "mine.yaml")) and "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [("- a\n", "expected cells such as alfworld_react, found list"), ("a: [", "not readable as YAML: ")],
)
def test_a_file_of_another_kind_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(CurationError) as fault:
        curated(tmp_path, content)
    assert said in str(fault.value) and "\n" not in str(fault.value)


def test_a_missing_file_says_which_setting_names_it(tmp_path: Path) -> None:
    with pytest.raises(CurationError, match=r"mine.yaml: can't be read \(No such file .*hints.curated in params.yaml"):
        read_curation(tmp_path / "mine.yaml", RULES)


def test_the_page_shows_every_entry_with_where_it_came_from(tmp_path: Path) -> None:
    found = curated(tmp_path, "alfworld_react:\n  add: {heat: ['A | b.']}\n")
    page = bank_page(CELL, found, HINTS, "mine.yaml")
    assert page.count("\n## ") == 2 and "3 entries from 4 failures on the train panel; 1 of them by hand" in page
    assert found[0].entry_id.startswith("curated-")
    assert f"| 1 | A \\| b. | 0 hints of 0 failures | curated | `{found[0].entry_id}` |" in page
    assert f"| 1 | {found[1].text} | 3 hints of 3 failures | unvisited | `{found[1].entry_id}` |" in page


def test_the_terminal_counts_what_the_teacher_was_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(banks, "DATA", tmp_path)
    write(tmp_path / "hints" / CELL / "bank.parquet", BankEntry, bank())
    write(tmp_path / "hints" / CELL / "hints.parquet", Hint, HINTS)
    assert banks.shown(CELL) is None  # the teacher has not played
    first, last = (entry.entry_id for entry in bank())
    played = [([first, last], True, ""), ([first], False, ""), ([first], False, "broke"), ([], True, "")]
    episodes = [
        play(Household({"shelf 1": []}), ["look"], hint_ids=ids, success=won, machine_failure=broken)
        for ids, won, broken in played
    ]
    write(tmp_path / "teacher" / CELL / "rag" / "episodes.parquet", Episode, episodes)
    assert banks.shown(CELL) == {first: (2, 1), last: (1, 1)}
    banks.show_bank(Console(width=200), CELL)
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if f"[{first[:8]}]" in line]
    assert line.split()[-2:] == ["2", "1"] and "unvisited" in line
