"""What a model is told of a failure, and what is said of that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from household import play
from structure import ROOT
from test_hint_writers import HOME, LOST, WON

from stages.core.params import load
from stages.core.records import Part
from stages.hinting import prompting
from stages.hinting.base import Failure, ProbeRecord
from stages.hinting.contrast import beside

TRIED = ProbeRecord(1, LOST[0].episode_id, LOST[0].task_id, "alfworld", "react", "put", 100, 9, "no_tool", [], [])


def test_the_prompt_has_the_task_the_trace_and_what_the_environment_says_of_itself() -> None:
    settings = load(ROOT / "params.yaml").hints
    system, user = prompting.prompt(Failure(LOST[0]), settings, 9)
    assert "ALFWorld" in system.content and "You act in a household through text." in system.content
    assert "at most 120 characters" in system.content and "1 to 4 hints" in system.content
    told = user.content
    assert f"Task: {LOST[0].goal}" in told and f"Category: {LOST[0].category}" in told and LOST[0].opening in told
    for turn in LOST[0].turns:
        assert f"> {turn.action}\n{turn.observation}" in told
    assert "- open box 1" in told or "- go to" in told
    assert "not solved; no turns were left." in told
    assert "comparison" not in told and "tried out" not in told and "$" not in system.content + told


def test_the_contrast_is_the_success_whose_goal_is_most_alike() -> None:
    far, near = (replace(WON, episode_id=name, goal=goal) for name, goal in (("far", "wash a cup"), ("near", WON.goal)))
    other = replace(near, episode_id="other", category="cool")
    [failure] = beside(LOST[:1], {}, [far, near, other, LOST[1]], ["contrast"])
    assert failure.success == near
    told = prompting.prompt(failure, load(ROOT / "params.yaml").hints, 9)[1].content
    assert told.count(WON.goal) >= 2 and "> move egg 1 to shelf 1" in told
    assert next(beside(LOST[:1], {}, [near], ["probe"])).success is None


def test_the_middle_of_a_trace_is_left_out_first() -> None:
    long = play(HOME, ["look", "go to table 1", "go to box 1", "go to shelf 1", "look"])
    told = prompting.prompt(Failure(long), load(ROOT / "params.yaml").hints, 2)[1].content
    assert "(3 turns are left out here.)" in told and told.count("> look") == 2 and "> go to" not in told


@pytest.mark.parametrize(
    ("changes", "beside", "turns", "said"),
    [
        ({}, {}, 3, "its trace"),
        ({}, {}, 2, "up to 2 turns of its trace"),
        ({"parts": [Part("price_met", 0.0)]}, {}, 3, "its trace and what the reward is made of"),
        (
            {"parts": [Part("price_met", 0.0)]},
            {"probe": TRIED, "success": WON},
            2,
            "up to 2 turns of its trace, what the reward is made of, what up to 100 steps of trying out found and a success of the same category",
        ),
    ],
)
def test_the_basis_is_what_was_told_of_these_failures(
    changes: dict[str, Any], beside: dict[str, Any], turns: int, said: str
) -> None:
    settings = load(ROOT / "params.yaml").hints
    told = Failure(replace(LOST[0], **changes), **beside)
    assert prompting.basis([Failure(LOST[1]), told], settings, turns) == said
    if "parts" in changes:
        unseen = settings.model_copy(update={"sees_parts": False})
        assert "reward" not in prompting.basis([told], unseen, turns)
