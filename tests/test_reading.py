"""Replies of instruct and reasoning models: what is read of them, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from structure import ROOT

from stages.agents import get
from stages.agents.base import Decision
from stages.core.plugins import names
from stages.core.records import Demo, read
from stages.core.thinking import aloud, end

REACT, STATEACT, ACT = get("react", "alfworld"), get("stateact", "alfworld"), get("act", "webshop")
STRICT = get("react", "alfworld", "strict")


@pytest.mark.parametrize(
    "reply",
    [
        "**Think:** a mug\n**Action:** look",
        "**Think**: a mug\n**Action**: look",
        "__Think:__ a mug\n__Action:__ look",
        "**Think: a mug**\n**Action: look**",
        "*Think:* a mug\n*Action: look*",
        "### Think: a mug\n### Action: look",
        "- Think: a mug\n- **Action:** look",
        "> Think: a mug\n> Action: look",
        "think: a mug\naction: look",
        "THINK: a mug\nACTION: look",
        "Think : a mug\nAction : look",
        "Think: a mug Action: look",
        "Think: a mug. Action: look Observation: You see",
        "**Think:** a mug **Action:** look",
        "Think: a mug Action: look Think: b Action: go",
        "Think: a mug\nAction: **look**",
        "Think: a mug\nAction: `look`",
        "**Think:** a mug\n**Action:** **look**",
        "Think: a mug\n**action:** look\nObservation: x\n**action:** go",
    ],
)
def test_a_loose_reply_is_read_where_it_can_mean_one_thing(reply: str) -> None:
    assert REACT.parse(reply).action == "look"
    assert REACT.parse(reply).thought.rstrip(".") == "a mug" and not REACT.parse(reply).fault
    assert STRICT.parse(reply).action in ("", "**look**", "`look`")


@pytest.mark.parametrize(
    "reply",
    [
        "Think: not 'Action: go' but Action: look",
        "Think: a Think: b Action: look",
        "I take the next action: look",
        "Reaction: look",
        "My plan of Action is to look",
    ],
)
def test_what_may_mean_several_things_is_not_read(reply: str) -> None:
    assert REACT.parse(reply) == Decision(reply, "", fault="no_action")


def test_a_line_in_the_agents_own_form_goes_before_any_other() -> None:
    assert REACT.parse("Think: my next\naction: go?\nAction: look").action == "look"
    assert REACT.parse("Think: so Action: go\nAction: look").action == "look"


def test_marks_within_an_action_are_its_own() -> None:
    assert ACT.parse("Action: search[**red** shoe]").action == "search[**red** shoe]"
    assert ACT.parse("**Action:** `a` or `b`").action == "`a` or `b`"
    assert ACT.parse("I search. Action: search[red *shoe*]").action == "search[red *shoe*]"


@pytest.mark.parametrize("sign", ["\n**{}:** ", " {}: "])
def test_a_loose_state_is_read_by_its_labels(sign: str) -> None:
    said = {"Goal": "put a mug", "Location": "desk 1", "Inventory": "none", "Think": "On.", "Action": "look"}
    reply = "".join(sign.format(label) + text for label, text in said.items()).strip()
    state = {name: said[name] for name in ("Goal", "Location", "Inventory")}
    assert STATEACT.parse(reply) == Decision("On.", "look", state)


@pytest.mark.parametrize("env", ["alfworld", "webshop"])
def test_what_agents_are_taught_to_write_is_read_alike_either_way(env: str) -> None:
    replies = 0
    for name in set(names("agents")) & {path.stem for path in (ROOT / "data/demos" / env).glob("*.parquet")}:
        loose, strict = get(name, env), get(name, env, "strict")
        for demo in read(Path(ROOT / "data/demos" / env / f"{name}.parquet"), Demo):
            for message in demo.messages:
                if message.role == "assistant":
                    replies += 1
                    assert loose.parse(message.content) == strict.parse(message.content)
    assert replies > 1000


THOUGHTS = [
    ("<think>\nMaybe\nAction: open fridge 1\n</think>\nThink: b\nAction: look", "b"),
    ("Maybe\nAction: open fridge 1\n</think>\n\nThink: b\nAction: look", "b"),
    ("<think></think>Think: b\nAction: look", "b"),
    ("<think>a<think>Action: go</think>Action: sing</think>\nThink: b\nAction: look", "b"),
    ("<think>I write <think> first.</think>\nThink: b\nAction: look", "b"),
    ("Think: b\n<think>\nAction: go\n</think>\nAction: look", "b"),
    ("Think: b\nAction: look\n<think>\nAction: go", "b"),
    ("<think>x</think>\n**Think:** b\n**Action:** look", "b"),
]


@pytest.mark.parametrize(("reply", "thought"), THOUGHTS)
def test_an_action_in_a_think_block_is_not_the_agents(reply: str, thought: str) -> None:
    assert REACT.parse(reply) == Decision(thought, "look")


@pytest.mark.parametrize("agent", [REACT, STRICT], ids=["loose", "strict"])
@pytest.mark.parametrize(
    "reply",
    ["<think>\nMaybe\nAction: open fridge 1", "<think>Action: go</think>\n<think>\nAction: look"],
)
def test_a_think_block_that_is_not_closed_has_no_action(agent: object, reply: str) -> None:
    assert (REACT if agent is REACT else STRICT).parse(reply) == Decision("", "", fault="no_action")


def test_a_reply_without_blocks_is_said_aloud_as_it_is() -> None:
    for text in ("", " Think: a\nAction: look\n", "a < b > c [x]"):
        assert aloud(text) == text


STOPS = ("\nObservation:", "\nThink:")


@pytest.mark.parametrize(
    ("reply", "whole"),
    [
        ("Think: a\nAction: look\nThink: b", "Think: a\nAction: look"),
        ("Think: a\nAction: look\nObservation: x\nThink: b", "Think: a\nAction: look"),
        ("\n\nThink: a\nAction: look\nThink: b", "\n\nThink: a\nAction: look"),
        (
            "<think>\nThink: x\nObservation: y</think>\nThink: a\nObservation: b",
            "<think>\nThink: x\nObservation: y</think>\nThink: a",
        ),
        ("x\n</think>\nThink: a\nThink: b", "x\n</think>\nThink: a"),
        ("Action: look<think>x</think>\nThink: b", "Action: look<think>x</think>"),
    ],
)
def test_a_stop_string_ends_what_is_said_and_no_thought(reply: str, whole: str) -> None:
    assert reply[: end(reply, STOPS)] == whole


@pytest.mark.parametrize("reply", ["", "Think: a", "<think>a\nThink: b", "\nThink: a", "<think>a</think>\nThink: a"])
def test_where_nothing_is_said_before_it_a_stop_string_ends_nothing(reply: str) -> None:
    assert end(reply, STOPS) is None and end(reply, ()) is None
