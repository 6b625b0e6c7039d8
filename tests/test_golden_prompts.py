"""Prompts and their reading stay as they are unless they are meant to change (then `python tests/golden.py`)."""

from __future__ import annotations

import json

import pytest
from golden import EPISODES, FOLDER, cases, golden
from tiny import make_tokenizer

from stages.agents.base import Agent
from stages.agents.shots import shots
from stages.core import plugins


@pytest.mark.parametrize(("env", "agent"), [pytest.param(*case, id=f"{case[0]}-{case[1].name}") for case in cases()])
def test_prompt_and_episode_are_as_committed(env: str, agent: Agent) -> None:
    text = golden(env, agent, make_tokenizer())
    assert text == (FOLDER / f"{env}_{agent.name}.txt").read_text(encoding="utf-8")
    category, place = EPISODES[env]
    steps = shots(plugins.environment(env).examples, category, place + 1)[place].steps
    replies = [json.loads(line) for line in text.partition("=== its replies, read\n")[2].splitlines()]
    assert [reply["action"] for reply in replies] == [step.action for step in steps]
    assert [reply["fault"] for reply in replies] == [""] * len(steps)
    if "Think" in agent.lines:
        assert [reply["thought"] for reply in replies] == [step.thought for step in steps]
    names = set(agent.lines) - {"Think"}
    assert [reply["state"] for reply in replies] == [
        {n: step.state[n] for n in step.state if n in names} for step in steps
    ]
