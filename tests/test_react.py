"""How ReAct replies are read, whatever a model writes."""

from __future__ import annotations

import pytest

from stages.agents import AGENTS, get
from stages.agents.base import Decision, Prompt
from stages.agents.react import INSTRUCTIONS, React
from stages.records import Message

AGENT = React()


@pytest.mark.parametrize(
    ("reply", "thought", "action"),
    [
        ("Think: I need a mug.\nAction: go to desk 1", "I need a mug.", "go to desk 1"),
        ("Think: I need a mug.\n\n  Action:   go to desk 1  \n", "I need a mug.", "go to desk 1"),
        ("Think: one\ntwo\nthree\nAction: look", "one\ntwo\nthree", "look"),
        ("Action: look", "", "look"),
        ("Think:\nAction: look", "", "look"),
        ("Well.\nThink: so\nAction: look", "so", "look"),
        ("Action: look\nThink: too late", "", "look"),
        ("Think: a\r\nAction: look\r\n", "a", "look"),
        ("Think: é ☃\nAction: take é 1 from ☃ 2", "é ☃", "take é 1 from ☃ 2"),
    ],
)
def test_a_reply_is_read_as_thought_and_action(reply: str, thought: str, action: str) -> None:
    assert AGENT.parse(reply) == Decision(thought, action)


@pytest.mark.parametrize(
    "reply",
    [
        "Think: a\nAction: look\nAction: go to bed 1",
        "Think: a\nAction: look\nObservation: x\nThink: b\nAction: go to bed 1",
        "Think: a\n\tAction: look\nAction: go to bed 1",
        "Think: a\nAction: look\n\n\nI stop.",
    ],
)
def test_the_first_of_several_actions_counts(reply: str) -> None:
    assert AGENT.parse(reply) == Decision("a", "look")


@pytest.mark.parametrize(
    "reply", ["", " \n\t", "go to desk 1", "Think: hm", "Think: hm Action: look", "action: look", "Action look"]
)
def test_a_reply_without_an_action_line_has_no_action(reply: str) -> None:
    assert AGENT.parse(reply) == Decision(reply.strip(), "")


@pytest.mark.parametrize("reply", ["Think: hm\nAction:", "Think: hm\nAction: \t ", "Think: hm\nAction:\ngo to bed 1"])
def test_an_empty_action_line_is_no_action(reply: str) -> None:
    assert AGENT.parse(reply) == Decision("hm", "")


def test_control_characters_do_not_break_lines() -> None:
    control = "".join(map(chr, [0, 7, 8, 27, 0x7F, 0x85])) + "\u2028\ufeff"
    assert AGENT.parse(f"Think: a{control}b\nAction: go{control}to") == Decision(f"a{control}b", f"go{control}to")


def test_an_action_of_ten_thousand_characters_is_kept_whole() -> None:
    long = "x" * 10_000
    assert AGENT.parse(f"Think: a\nAction: {long}\n{long}") == Decision("a", long)


@pytest.mark.parametrize("filler", [" ", "\n", "\t", "\r\n", "Think: ", "\nThink:", "\nAction", "Action:"])
def test_a_reply_that_goes_in_circles_is_read_at_once(filler: str) -> None:
    AGENT.parse("Think:" + filler * 5_000 + "x")  # a pattern that backtracks would take hours


@pytest.mark.parametrize("thought", ["", "I need a mug. Places: bed 1, desk 1.", "a: b"])
@pytest.mark.parametrize("action", ["look", "take mug 1 from desk 1", ""])
def test_what_is_rendered_is_read_back(thought: str, action: str) -> None:
    assert AGENT.parse(AGENT.render(thought, action, {"Goal": "x"})) == Decision(thought, action)


def test_a_reply_stops_before_it_writes_the_observation_or_a_second_thought() -> None:
    reply = AGENT.render("a", "look", {})
    assert not any(stop in reply for stop in AGENT.stop)
    for invented in ("\nObservation: On the desk 1, you see a mug 1.", "\nThink: next"):
        assert any((reply + invented).index(stop) == len(reply) for stop in AGENT.stop if stop in reply + invented)


def test_hints_stand_in_the_system_message_and_nowhere_else() -> None:
    hinted = AGENT.prompt("alfworld", "You are in a room.", ("Look first.", "Open it."))
    assert hinted.messages() == [
        Message("system", f"{INSTRUCTIONS['alfworld']}\nHints:\n- Look first.\n- Open it."),
        Message("user", "You are in a room."),
    ]
    plain = Prompt(hinted.instructions, (), hinted.opening)
    assert plain == AGENT.prompt("alfworld", "You are in a room.", ())
    assert plain.messages()[0].content == INSTRUCTIONS["alfworld"]


def test_agents_are_found_by_name() -> None:
    assert get("react") is AGENTS["react"]
    with pytest.raises(KeyError, match=r"unknown agent 'reakt'; known: .*react"):
        get("reakt")
