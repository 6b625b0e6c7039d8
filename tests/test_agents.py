"""How prompts are laid out and replies read, whatever a model writes."""

from __future__ import annotations

import dataclasses

import pytest

from stages.agents import get, spec
from stages.agents.base import MAX_ACTION, Agent, Decision
from stages.agents.shots import shots
from stages.core import plugins
from stages.core.plugins import PluginError
from stages.core.records import Message
from stages.envs.alfworld import TASK_TYPE

NAMES, ENVS = plugins.names("agents"), ("alfworld", "webshop")
ALL = pytest.mark.parametrize(
    "agent", [pytest.param(get(name, env), id=f"{name}-{env}") for name in NAMES for env in ENVS]
)
REACT, STATEACT = get("react", "alfworld"), get("stateact", "alfworld")
EXAMPLES = {env: plugins.environment(env).examples for env in ENVS}
STATE = {"Goal": "put a mug in shelf", "Location": "desk 1", "Inventory": "mug 1"}


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
        ("Think: the Goal: is near\nAction: look", "the Goal: is near", "look"),
    ],
)
def test_a_reply_is_read_as_thought_and_action(reply: str, thought: str, action: str) -> None:
    assert REACT.parse(reply) == Decision(thought, action)


def test_a_state_is_read_line_by_line() -> None:
    reply = "Goal: put a mug in shelf\nLocation: desk 1\nInventory: mug 1\nThink: I go\non.\nAction: go to shelf 1"
    assert STATEACT.parse(reply) == Decision("I go\non.", "go to shelf 1", STATE)
    assert STATEACT.parse("Location: desk 1\nAction: look").state == {"Location": "desk 1"}
    shopper = get("stateact", "webshop")
    assert shopper.parse("Selection: B01, red\nThink: a\nAction: click[Buy Now]").state == {"Selection": "B01, red"}


@ALL
@pytest.mark.parametrize("rest", ["\nAction: go to bed 1", "\nObservation: x\nThink: b\nAction: sing", "\n\n\nI stop."])
def test_the_first_of_several_actions_counts(agent: Agent, rest: str) -> None:
    assert agent.parse("Action: look" + rest) == Decision("", "look")


@ALL
@pytest.mark.parametrize("reply", ["", " \n\t", "go to desk 1", "Think: hm", "Action look", "My action: look"])
def test_a_reply_without_an_action_has_none(agent: Agent, reply: str) -> None:
    assert agent.parse(reply) == Decision(reply.strip(), "", fault="no_action")
    strict = dataclasses.replace(agent, reading="strict")
    assert strict.parse(reply) == agent.parse(reply)


@ALL
@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("", "empty_action"),
        (" \t ", "empty_action"),
        ("\ngo to bed 1", "empty_action"),
        (" go\x1b[2J to bed 1", "control_characters"),
        (" go\x00", "control_characters"),
        (" " + "x" * 10_000, "long_action"),
    ],
)
def test_an_action_that_cannot_be_played_is_none_and_says_why(agent: Agent, line: str, fault: str) -> None:
    assert agent.parse(f"Action:{line}") == Decision("", "", fault=fault)


def test_an_action_may_be_as_long_as_any_instruction() -> None:
    longest = "search[" + "x" * (MAX_ACTION - 8) + "]"
    assert REACT.parse(f"Action: {longest}").action == longest


@ALL
@pytest.mark.parametrize("filler", [" ", "\n", "\t", "\r\n", "Think: ", "\nThink:", "\nAction", "Action:", "\nGoal:"])
def test_a_reply_that_goes_in_circles_is_read_at_once(agent: Agent, filler: str) -> None:
    agent.parse("Think:" + filler * 5_000 + "x")  # a pattern that backtracks would take hours


@ALL
@pytest.mark.parametrize("thought", ["", "I need a mug. Places: bed 1, desk 1.", "a: b"])
def test_what_is_rendered_is_read_back(agent: Agent, thought: str) -> None:
    said = agent.parse(agent.render(thought, "take mug 1 from desk 1", STATE))
    assert said.action == "take mug 1 from desk 1" and not said.fault
    assert said.thought == (thought if "Think" in agent.lines else "")
    assert said.state == {name: text for name, text in STATE.items() if name in agent.lines}


@ALL
def test_the_instructions_name_every_line_of_a_reply(agent: Agent) -> None:
    instructions = agent.prompt("", ()).instructions
    assert all(f"'{label}:'" in instructions for label in (*agent.lines, "Action"))
    assert all(f"'{label}:'" in agent.correction() for label in (*agent.lines, "Action"))
    other = {label for env in ENVS for label in get("stateact", env).lines} - set(agent.lines)
    assert not any(f"'{label}:'" in instructions for label in other)


@ALL
def test_a_reply_stops_before_it_writes_the_observation_or_the_next_turn(agent: Agent) -> None:
    reply = agent.render("a", "look", STATE)
    following = agent.render("b", "go to bed 1", STATE)
    assert not any(stop in reply for stop in agent.stop)
    for invented in ("\nObservation: On the desk 1, you see a mug 1.", "\n" + following):
        whole = reply + invented
        assert any(whole.index(stop) == len(reply) for stop in agent.stop if stop in whole)


@ALL
def test_removing_hints_and_examples_is_dropping_parts(agent: Agent) -> None:
    examples = shots(EXAMPLES["alfworld"], "heat", 2)
    full = agent.prompt("You are in a room.", ("Look first.", "Open it."), examples)
    system, *middle, opening = full.messages()
    assert system.content.startswith(full.instructions) and system.content.endswith("\n- Look first.\n- Open it.")
    assert opening.role == "user" and opening.content.endswith("A new task begins.\n\nYou are in a room.")
    assert not any("Look first" in m.content for m in [*middle, opening])
    bare = dataclasses.replace(full, hints=(), shots=())
    assert bare == agent.prompt("You are in a room.", ())
    assert bare.messages() == [Message("system", full.instructions), Message("user", "You are in a room.")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("env", "category", "number"), [*[("alfworld", c, 2) for c in TASK_TYPE], ("webshop", "garden", 1)]
)
def test_examples_are_won_episodes_in_the_agents_own_form(name: str, env: str, category: str, number: int) -> None:
    agent, examples = get(name, env), shots(EXAMPLES[env], category, number)
    assert len({e.opening for e in examples}) == number
    messages = agent.prompt("now", (), examples).messages()[1:-1]
    assert [m.role for m in messages[:2]] == ["user", "assistant"]
    for example in examples:
        for step in example.steps:
            read = agent.parse(agent.render(step.thought, step.action, step.state))
            assert read.action == step.action and set(read.state) | {"Think"} >= set(agent.lines)
        ends = {"alfworld": ("You move the", "You turn on the"), "webshop": ("Your score (min 0.0, max 1.0): 1.0",)}[
            env
        ]
        assert example.steps[-1].observation.startswith(ends)
    assert not any(m.train for m in messages)


def test_no_more_examples_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"3 examples asked for, but .*/alfworld/examples\.json has 2 for 'heat'"):
        shots(EXAMPLES["alfworld"], "heat", 3)


def test_agents_are_found_by_name() -> None:
    assert get("react", "alfworld") == Agent("react", plugins.environment("alfworld").interface, {"Think": ""})
    assert [spec(name).title for name in ("act", "react", "stateact")] == ["Act", "ReAct", "StateAct"]
    with pytest.raises(PluginError, match=r"there is no agent 'reakt' in stages/agents, only .*react"):
        get("reakt", "alfworld")
    with pytest.raises(PluginError, match=r"there is no environment 'alfwurld' in stages/envs, only alfworld"):
        get("react", "alfwurld")
