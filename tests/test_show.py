"""Recorded episodes: found by id or by who played what, shown alone or two beside each other, and where hints came from."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fake_study import SHA, broken, episode
from household import hint_of

from stages.commands.main import main
from stages.core.records import SCHEMA_VERSION, BankEntry, Episode, Hint, Part, write

Command = Callable[..., str]


def of(system: str, ident: str, task: str, success: bool, **changes: object) -> Episode:
    return episode(system, task, "heat", success, episode_id=ident, **changes)


@pytest.fixture(autouse=True)
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Base and two students on two tasks of the test panel, base on the train panel, and the teacher there, with a bank."""
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").touch()
    monkeypatch.setenv("COLUMNS", "140")
    base = [of("base", "aa11", "heat-0", False), of("base", "aa22", "heat-1", True)]
    students = [[of("sft", f"{s}{n}", f"heat-{n}", True, seed=s) for n in (0, 1)] for s in (5, 6)]
    train = {"panel": "train", "panel_sha256": SHA["train"]}
    failed = of("base", "cc11", "heat-0", False, **train)
    hinted = of("rag", "dd11", "heat-0", True, hint_ids=["be01", "gone"], hints=["Heat it.", "Old."], **train)
    tables = {
        "evals/alfworld_react_base/test": base,
        "evals/alfworld_react_sft_s5/test": students[0],
        "evals/alfworld_react_sft_s6/test": students[1],
        "rollouts/alfworld_react/episodes": [failed],
        "teacher/alfworld_react/rag/episodes": [hinted],
    }
    for name, rows in tables.items():
        write(Path(f"data/{name}.parquet"), Episode, rows)
    hints = [replace(hint_of("Heat it.", e), hint_id=f"f{e}") for e in ("cc11", "cc22")]
    hints[1] = replace(hints[1], text="Do heat it.", evidence="the mug stayed cold")
    entry = BankEntry(
        SCHEMA_VERSION,
        "be01",
        "alfworld",
        "react",
        "heat",
        "Heat it.",
        2,
        1,
        [h.hint_id for h in hints],
        ["cc11", "cc22"],
    )
    write(Path("data/hints/alfworld_react/bank.parquet"), BankEntry, [entry])
    write(Path("data/hints/alfworld_react/hints.parquet"), Hint, hints)


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """What `python -m stages show ...` prints; with `fails`, the complaint of a run that must not go well."""

    def command(*options: str, fails: bool = False) -> str:
        monkeypatch.setattr(sys, "argv", ["stages", "show", *options])
        assert main() == int(fails)
        out, err = capsys.readouterr()
        assert not (out if fails else err)
        return err if fails else out

    return command


# One episode


def test_an_episode_is_shown_from_top_to_bottom(show: Command) -> None:
    said = show("aa1")
    order = [
        "heat-0",
        "base",
        "tiny",
        "aa11",
        "none shown",
        "You are in a room.",
        "You go.",
        "Nothing happens.",
        "not solved",
    ]
    assert [said.index(words) for words in order] == sorted(said.index(words) for words in order)
    assert "100 prompt (60 computed) + 10 reply" in said
    assert "refused  Nothing happens." in said
    assert "turn_limit: no turns were left" in said
    assert "260 = 240 prompt + 20 reply + 0 retrieval; computed 80" in said
    assert "\x1b" not in said


def test_a_reply_that_was_cut_or_unreadable_is_said(show: Command) -> None:
    made = of("base", "ee11", "heat-2", False)
    turn = replace(made.turns[0], action="", fault="no_action", thought="Hm [b]so[/b]", finish="length")
    write(Path("data/evals/x/test.parquet"), Episode, [replace(made, turns=[turn])])
    said = show("ee11")
    assert (
        "says     Hm [b]so[/b]" in said
        and "nothing: no line that begins with Action:" in said
        and "cut at its token limit" in said
    )


def test_the_rewards_parts_and_a_failure_of_the_machine_are_shown(show: Command) -> None:
    scored = of("base", "ee11", "heat-2", False, parts=[Part("options_met", 1.0), Part("options_wanted", 2.0)])
    write(Path("data/evals/x/test.parquet"), Episode, [scored, broken(of("base", "ee22", "heat-3", False))])
    assert "options met 1, options wanted 2" in show("ee11")
    assert "engine down" in show("ee22")


def test_an_episode_is_found_by_who_played_what(show: Command) -> None:
    for name in ("1", "heat-1"):
        assert "aa22" in show("--env", "alfworld", "--system", "base", "--panel", "test", "--task", name)
    assert "61" in show("--system", "sft", "--seed", "6", "--task", "1")


def test_hints_are_shown_with_the_failures_behind_them(show: Command) -> None:
    said = show("dd11")
    assert "Heat it.  [be01, from 2 failures]" in said
    assert "Old.  [gone, not in the present bank]" in said


def test_hints_are_shown_without_a_bank_too(show: Command) -> None:
    shutil.rmtree("data/hints")
    assert "Heat it.  [be01, not in the present bank]" in show("dd11")


def test_lines_keep_to_the_width(show: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = show("dd11").splitlines()
    assert max(map(len, lines)) <= 40 and not any(line.endswith(" ") for line in lines)


# Two episodes


def test_two_episodes_of_a_task_stand_beside_each_other(show: Command) -> None:
    [systems] = [line for line in show("aa11", "50").splitlines() if "system " in line]
    assert "base" in systems and "sft" in systems
    said = show("--system", "base", "--panel", "test", "--task", "0", "--against", "sft", fails=True)
    assert "50  sft (seed 5)" in said and "60  sft (seed 6)" in said, "both seeds are candidates"


def test_against_finds_the_same_task_of_the_same_panel(show: Command) -> None:
    [ids] = [line for line in show("cc11", "--against", "rag").splitlines() if "episode " in line]
    assert "cc11" in ids and "dd11" in ids


def test_turns_are_aligned_when_one_episode_is_longer(show: Command) -> None:
    made = of("rag", "ee11", "heat-0", True)
    longer = replace(
        made, turns=[replace(made.turns[0], observation="A very long sight. " * 20), *made.turns, made.turns[1]]
    )
    write(Path("data/evals/x/test.parquet"), Episode, [longer])
    lines = show("aa11", "ee11").splitlines()
    numbers = [line.split("│")[0].strip() for line in lines if "│" in line]
    assert [n for n in numbers if n] == ["1", "2", "3", "4"]
    [second] = [line for line in lines if line.strip().startswith("2 │")]
    assert "fly" in second and "go" in second


def test_a_narrow_terminal_has_them_one_after_the_other(show: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = show("aa11", "50")
    assert "│" not in said and said.index("aa11") < said.index("outcome") < said.index("sft (agent")


def test_two_episodes_of_different_tasks_are_refused(show: Command) -> None:
    assert "heat-0 (test) and heat-1 (test)" in show("aa11", "aa22", fails=True)
    assert "heat-0 (test) and heat-0 (train)" in show("aa11", "cc11", fails=True)


def test_two_episodes_of_different_panels_of_one_name_are_refused(show: Command) -> None:
    write(Path("data/evals/x/test.parquet"), Episode, [of("rag", "ee11", "heat-0", True, panel_sha256="9" * 64)])
    assert "the panel was another one" in show("aa11", "ee11", fails=True)


# Lists


def test_a_list_has_a_line_for_each_episode(show: Command) -> None:
    head, *lines = show("--list").splitlines()
    assert head.split()[0] == "episode_id" and len(lines) == 8
    [line] = [line for line in lines if line.startswith("aa22")]
    assert line.split() == [
        "aa22",
        "alfworld",
        "react",
        "base",
        "0",
        "test",
        "heat-1",
        "yes",
        "1.00",
        "2",
        "260",
        "done",
    ]


def test_a_list_keeps_to_what_is_asked_for(show: Command) -> None:
    names = [line.split()[0] for line in show("--list", "--system", "base", "--failures").splitlines()[1:]]
    assert names == ["aa11", "cc11"]


# Where hints came from


@pytest.mark.parametrize("name", ["be", "fcc2"])
def test_an_entry_is_shown_with_the_hints_it_merged_and_their_episodes(show: Command, name: str) -> None:
    said = show("--hint", name)
    assert "be01 (alfworld, react, category heat, rank 1)" in said and "2 hints of failed episodes" in said
    assert "cc11 (train-0)" in said and "cc22 (train-0)" in said
    assert "the mug stayed cold" in said and "Do heat it." in said


# What is not there


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "name an episode by its id, or by --task"),
        (("aa11", "--system", "base"), "not by both"),
        (("aa11", "aa22", "50"), "two episodes at most"),
        (("aa11", "50", "--against", "rag"), "two episodes at most"),
        (("zz",), "no recorded episode's id begins with 'zz'; `python -m stages show --list` lists all"),
        (("aa",), "2 episodes' ids begin with 'aa'; say which:\n  aa11  base (seed 0), test, heat-0\n"),
        (("--task", "heat-0", "--panel", "test"), "3 episodes match: panel test, task heat-0; say which:"),
        (("--task", "99"), "no recorded episode matches: task 99"),
        (("--list", "--system", "wizard"), "no recorded episode matches: system wizard"),
        (("aa11", "--against", "wizard"), "no recorded episode matches: env alfworld, agent react, system wizard"),
        (("--hint", "zz"), "no bank entry's or hint's id begins with 'zz'"),
    ],
)
def test_what_is_not_there_or_not_clear_is_named(show: Command, options: tuple[str, ...], said: str) -> None:
    assert said in show(*options, fails=True)


def test_a_whole_id_is_enough_where_another_begins_with_it(show: Command) -> None:
    write(Path("data/evals/x/test.parquet"), Episode, [of("rag", "aa112", "heat-0", True)])
    assert "base" in show("aa11")


def test_without_data_it_says_what_makes_them(show: Command) -> None:
    shutil.rmtree("data")
    for options in (("aa11",), ("--list",), ("--hint", "be")):
        assert "run `dvc repro` first" in show(*options, fails=True)


def test_a_file_that_holds_no_episodes_is_named(show: Command) -> None:
    Path("data/evals/alfworld_react_base/dev.parquet").write_bytes(b"nothing")
    assert "dev.parquet: not a readable Parquet file" in show("--list", fails=True)
    write(Path("data/evals/alfworld_react_base/dev.parquet"), Hint, [])
    assert "dev.parquet: not a table of Episode records" in show("--list", fails=True)
