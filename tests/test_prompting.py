"""What an agent is shown as an episode goes on: examples, corrections, turns left out, and by which category."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from ladder import AGENT, CODE, IDENTITY, NO_HINTS, PLAY, FakeEngine, World, count, own_category, play, task, up

from stages.agents.shots import shots
from stages.core import plugins
from stages.core.records import SCHEMA_VERSION, BankEntry, Message
from stages.envs.alfworld import TASK_TYPE
from stages.envs.alfworld.instruction import read_category
from stages.envs.base import Task
from stages.envs.panel import write_panels
from stages.envs.registry import category_reader
from stages.envs.webshop.department import DepartmentReader
from stages.panelling.alfworld.generator import generate_game, possible_goals
from stages.retrieval.retriever import Retriever
from stages.runner.episodes import play_tasks
from stages.runner.journal import Journal

SHOPPING = [("i need a red lamp", "home"), ("i want a soft scarf", "fashion")]
MUMBLE = "I would rather not."


def test_examples_stand_between_the_system_message_and_the_opening(tmp_path: Path) -> None:
    engine = FakeEngine(up)
    settings = dataclasses.replace(PLAY, shots=2)
    [episode] = play(tmp_path, [task(1)], World(), engine, settings=settings)
    examples = shots(plugins.environment("alfworld").examples, "put", 2)
    assert engine.prompts[0] == AGENT.prompt(episode.opening, (), examples).messages()
    assert len(engine.prompts[0]) == 2 + sum(2 * len(e.steps) for e in examples)
    assert all(a.role != b.role for a, b in pairwise(engine.prompts[0]))
    assert episode.prompt_tokens == sum(count(m.content) for prompt in engine.prompts for m in prompt)


def test_an_unreadable_reply_is_answered_once_with_a_request_for_another(tmp_path: Path) -> None:
    replies = iter([MUMBLE, up([]), MUMBLE, MUMBLE, up([])])
    engine = FakeEngine(lambda messages: next(replies))
    [episode] = play(tmp_path, [task(1)], World(), engine, settings=dataclasses.replace(PLAY, corrections=1))
    assert [(t.fault, t.asked_again, t.valid) for t in episode.turns] == [
        ("no_action", True, False),
        ("", False, True),
        ("no_action", True, False),
        ("no_action", False, False),  # the second in a row is played, as an empty command
        ("", False, True),
    ]
    assert [t.observation for t in episode.turns] == [
        AGENT.correction(),
        "You stand on rung 1.",
        AGENT.correction(),
        "Nothing happens.",
        "You stand on rung 2.",
    ]
    assert engine.prompts[1][-2:] == [Message("assistant", MUMBLE), Message("user", AGENT.correction())]
    assert (episode.success, episode.steps, episode.refused) == (True, 5, 3)


def test_without_corrections_an_unreadable_reply_is_an_empty_command(tmp_path: Path) -> None:
    replies = iter([MUMBLE, up([]), up([])])
    [episode] = play(tmp_path, [task(1)], World(), FakeEngine(lambda messages: next(replies)))
    first = episode.turns[0]
    assert (first.fault, first.asked_again, first.observation) == ("no_action", False, "Nothing happens.")


def test_the_older_half_is_left_out_when_a_prompt_outgrows_the_window(tmp_path: Path) -> None:
    engine = FakeEngine(up, window=60)
    [episode] = play(tmp_path, [task(1, steps=6)], World(), engine, settings=dataclasses.replace(PLAY, max_repeats=9))
    assert (episode.stop, episode.success, episode.steps) == ("done", True, 6)
    elided = [t.elided for t in episode.turns]
    assert elided[0] == 0 < elided[-1] and elided == sorted(elided)
    asked = [p for p in engine.prompts if sum(count(m.content) for m in p) <= engine.window]
    assert len(asked) == len(episode.turns)
    for number, (prompt, turn) in enumerate(zip(asked, episode.turns, strict=True)):
        kept = episode.turns[turn.elided : number]
        assert [m.content for m in prompt[2:]] == [text for t in kept for text in (t.reply, t.observation)]
        assert prompt[1].content.startswith(episode.opening)
        assert (f"first {turn.elided} turns" in prompt[1].content) == bool(turn.elided)
        assert number == 0 or prompt[-1].content == episode.turns[number - 1].observation
    assert not engine.open_sessions


def test_an_episode_ends_when_even_its_last_turn_does_not_fit(tmp_path: Path) -> None:
    engine = FakeEngine(up, window=36)
    [episode] = play(tmp_path, [task(1, steps=6)], World(), engine)
    assert (episode.stop, episode.success, episode.machine_failure) == ("context", False, "")
    assert 0 < episode.steps == len(episode.turns) < 6
    assert not engine.open_sessions


def test_hints_follow_the_category_that_was_read(tmp_path: Path) -> None:
    entries = [
        BankEntry(SCHEMA_VERSION, f"{c}1", "alfworld", "react", c, f"For {c}.", 1, 1, ["h"], ["e"])
        for c in ("put", "cool")
    ]
    with Journal(tmp_path, IDENTITY, CODE) as journal:
        engine = FakeEngine(up)
        retriever = Retriever("rag", entries, 3, 0)
        [episode] = play_tasks([task(1)], PLAY, AGENT, engine, World().make, lambda _: "cool", retriever, journal)
    assert (episode.category, episode.category_used, episode.hints) == ("put", "cool", ["For cool."])


@pytest.mark.parametrize("category", sorted(TASK_TYPE))
def test_alfworlds_own_instructions_tell_their_category(category: str) -> None:
    for unseen in (False, True):
        goals = list(possible_goals(TASK_TYPE[category], unseen))
        sentences = {generate_game(1, "x", TASK_TYPE[category], i, unseen, goals[i::12]).sentence for i in range(12)}
        assert {read_category(sentence) for sentence in sentences} == {category}


@pytest.mark.parametrize(
    ("known", "instruction", "department"),
    [
        ([("a red lamp", "home"), ("a soft scarf", "fashion")], "i need a lamp", "home"),
        ([("a red lamp", "home"), ("a soft scarf", "fashion")], "SCARF, soft", "fashion"),
        ([("lamp", "home"), ("lamp", "garden"), ("lamp", "garden")], "lamp", "garden"),
        ([("lamp", "home"), ("scarf", "fashion")], "nothing known", "fashion"),
    ],
)
def test_a_department_is_read_from_the_words_of_known_instructions(
    known: Sequence[tuple[str, str]], instruction: str, department: str
) -> None:
    assert DepartmentReader(known).read(instruction) == department


@pytest.mark.parametrize(("basis", "category"), [("oracle", "home"), ("inferred", "fashion")])
def test_a_shops_category_is_the_goals_own_or_read_by_what_the_train_panel_taught(
    tmp_path: Path, basis: str, category: str
) -> None:
    known = [Task(f"t{n}", "webshop", "train", c, goal, {}) for n, (goal, c) in enumerate(SHOPPING)]
    write_panels(tmp_path, "webshop", "generated", {"train": known})
    asked = Task("t9", "webshop", "test", "home", "find me a soft scarf", {})
    assert category_reader("webshop", basis, tmp_path)(asked) == category


def test_a_department_cannot_be_read_from_nothing() -> None:
    with pytest.raises(ValueError, match="no instruction"):
        DepartmentReader([])


def test_own_categories_need_no_reading(tmp_path: Path) -> None:
    [episode] = play(tmp_path, [task(1)], World(), FakeEngine(up), NO_HINTS)
    assert episode.category_used == episode.category == own_category(task(1))
