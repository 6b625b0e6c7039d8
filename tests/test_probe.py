"""The probe finds what a failed episode missed, by trying it out, within its budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from household import Household, play, task_of

from stages.core.records import read, write
from stages.hinting.alfworld.probe import probe
from stages.hinting.base import ProbeRecord

ROOM = {"table 1": ["mug 1"], "box 1": ["egg 1"], "tub 1": [], "zapper 1": [], "shelf 1": []}
TOOLS = {"wet": "tub 1", "zap": "zapper 1"}


def glowing(**changes: object) -> Household:
    """The goal's adjective shares no letter with the verb that reaches it; only the game's end can tell."""
    home = Household(ROOM, state="zap", tools=TOOLS, shut=frozenset({"box 1"}), sentence="put a glowing egg in shelf")
    return replace(home, **changes)  # type: ignore[arg-type]


def test_the_tool_that_wins_the_game_is_the_one_found() -> None:
    home = glowing()
    episode = play(home, ["go to table 1", "go to shelf 1"])
    found = probe(home, task_of(home), episode, 100)
    assert found.outcome == "verified"
    assert [(t.action, t.success) for t in found.trials] == [
        ("wet egg 1 with tub 1", False),
        ("zap egg 1 with zapper 1", True),
    ]
    assert found.winner is not None
    assert (found.winner.place, found.winner.observation) == ("zapper 1", "You zap the egg 1.")


def test_every_step_is_recorded_and_counted() -> None:
    home = glowing()
    episode = play(home, ["go to table 1"])
    before = home.steps
    found = probe(home, task_of(home), episode, 100)
    assert found.steps_used == len(found.steps) == home.steps - before
    assert "open box 1" in [step.action for step in found.steps]
    opened = [action for step in found.steps for action in step.opened if step.action == "go to zapper 1"]
    assert "zap egg 1 with zapper 1" in opened
    assert max(step.attempt for step in found.steps) == found.trials[-1].attempt


def test_the_budget_is_never_exceeded() -> None:
    home = glowing()
    episode = play(home, ["go to table 1"])
    needed = probe(home, task_of(home), episode, 100).steps_used
    outcomes = set()
    for budget in range(needed + 1):
        before = home.steps
        found = probe(home, task_of(home), episode, budget)
        assert found.steps_used == home.steps - before <= budget
        assert (found.outcome == "verified") == (budget == needed)
        outcomes.add(found.outcome)
    assert outcomes == {"budget", "unverified", "verified"}


def test_what_the_episode_saw_is_not_searched_again() -> None:
    home = glowing(holds={**ROOM, "box 1": ["mug 1"], "table 1": ["egg 1"]})
    blind = probe(home, task_of(home), play(home, []), 100)
    informed = probe(home, task_of(home), play(home, ["go to table 1"]), 100)
    assert blind.steps[0].action == "go to box 1"
    assert informed.steps[0].action == "go to table 1"
    assert informed.steps_used < blind.steps_used


def test_a_verb_that_the_goal_names_is_tried_at_once() -> None:
    home = glowing(sentence="zap some egg and put it in shelf")
    found = probe(home, task_of(home), play(home, []), 100)
    assert found.trials[-1].action == "zap egg 1 with zapper 1"
    assert found.outcome == "verified"


def test_a_thing_that_is_used_where_it_stands() -> None:
    holds = {"table 1": [], "desk 1": ["lantern 1"], "bed 1": ["egg 1"]}
    home = Household(holds, lamp="lantern 1", sentence="look at egg under the lantern")
    found = probe(home, task_of(home), play(home, []), 100)
    assert found.winner is not None
    assert (found.winner.action, found.winner.place) == ("use lantern 1", "desk 1")


@pytest.mark.parametrize(
    ("home", "outcome"),
    [
        (glowing(tools={}), "no_tool"),
        (glowing(state="bless"), "unverified"),
        (glowing(holds={**ROOM, "box 1": []}), "not_found"),
        (Household(ROOM), "no_step"),
        (glowing(sentence="make the egg glow"), "no_step"),
    ],
)
def test_outcomes_without_a_winner(home: Household, outcome: str) -> None:
    found = probe(home, task_of(home), play(home, ["go to table 1"]), 100)
    assert (found.outcome, found.winner) == (outcome, None)


def test_a_step_that_was_carried_out_is_not_looked_for() -> None:
    home = glowing(sentence="zap some egg and put it in shelf")
    actions = ["go to box 1", "open box 1", "take egg 1 from box 1", "go to zapper 1", "zap egg 1 with zapper 1"]
    assert probe(home, task_of(home), play(home, actions), 100).outcome == "no_step"


def test_records_survive_the_disk(tmp_path: Path) -> None:
    home = glowing()
    found = [probe(home, task_of(home), play(home, []), budget) for budget in (0, 3, 100)]
    write(tmp_path / "probes.parquet", ProbeRecord, found)
    assert read(tmp_path / "probes.parquet", ProbeRecord) == found
