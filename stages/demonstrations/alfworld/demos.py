"""Warm-up demonstrations: what the explorer thinks, does and sees, as chat conversations.

Part of them carry hints in the prompt. A known skill's hint helps or is noise; a made-up tool's hint is the only way to
know what to do. Withheld categories are never shown, with or without a hint. A share holds one refused action, which is not
trained on, and the recovery from it, which is.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from tqdm import tqdm

from stages.agents.base import Agent
from stages.core.records import SCHEMA_VERSION, Demo, Message
from stages.demonstrations.alfworld.explorer import TOOLS, Explorer, Lost, kind, listed
from stages.demonstrations.alfworld.nonce import NonceTool, Tool, draw_tool
from stages.demonstrations.plan import Plan
from stages.envs.base import Environment, Task
from stages.language.household import GENERIC, TOOL_FORMS, USE_FORMS

MAX_STEPS = 30  # a longer search teaches little more and costs much
_NOISE = 0.2  # of the hinted demonstrations also show the hint of a tool that the task has no use for


def tool_hint(verb: str, place: str, rng: random.Random) -> str:
    """How to use a tool, in one of the wordings that the hint writer uses."""
    return rng.choice(TOOL_FORMS).format(verb=verb, tool=place)


def _hints(first: str | None, rng: random.Random) -> tuple[str, ...]:
    """One to three hints in random order: the useful one if there is any, others as noise."""
    noise = rng.sample(GENERIC, 3)
    if rng.random() < _NOISE:
        other = draw_tool(rng)
        noise.insert(0, tool_hint(other.verb, other.place, rng))
    hints = [first] if first else []
    hints += noise[: rng.randint(1, 3) - len(hints)]
    rng.shuffle(hints)
    return tuple(hints)


def _blunder(explorer: Explorer, action: str, rng: random.Random) -> tuple[str, str] | None:
    """A typical mistake in place of a move to the next place: taking what is not there, or a place that does not exist."""
    if not action.startswith("go to ") or explorer.at is None or explorer.hand is not None:
        return None
    if rng.random() < 0.5 and explorer.at not in explorer.closed:
        item = f"{explorer.thing} {rng.randint(1, 3)}"
        if item not in explorer.contents.get(explorer.at, ()):
            return f"I see {item}. I take it.", f"take {item} from {explorer.at}"
    number = max(int(p.rsplit(" ", 1)[1]) for p in explorer.places if kind(p) == kind(explorer.at)) + 1
    return f"No {explorer.thing} here. Next: {kind(explorer.at)} {number}.", f"go to {kind(explorer.at)} {number}"


def play(
    env: Environment,
    task: Task,
    agent: Agent,
    hints: tuple[str, ...],
    tool: Tool | None,
    recover: bool,
    rng: random.Random,
) -> list[Message] | None:
    """One demonstration as chat messages, or None where the explorer does not succeed within `MAX_STEPS`."""
    world: Environment = NonceTool(env, tool) if tool else env
    seen = world.reset(task)
    messages = agent.prompt(seen.text, hints).messages()
    tools = {tool.verb: tool.place} if tool else TOOLS
    try:
        explorer = Explorer(seen.text, tools, {tool.state: tool.verb} if tool else None)
        for _ in range(MAX_STEPS):
            thought, action = explorer.decide()
            mistake = _blunder(explorer, action, rng) if recover and rng.random() < 0.5 else None
            if mistake:
                recover = False
                thought, action = mistake
            messages.append(Message("assistant", agent.render(thought, action, explorer.state), train=mistake is None))
            seen = world.step(action)
            if seen.done:
                return messages
            explorer.observe(action, seen.text)
            messages.append(Message("user", seen.text))
    except Lost:
        pass
    return None


def _known_hint(task: Task, rng: random.Random) -> str | None:
    """The hint that the writer would give for a task of this category, where it names a tool."""
    if task.category == "examine":
        return rng.choice(USE_FORMS).format(verb="use", tool="desklamp")
    return tool_hint(task.category, TOOLS[task.category], rng) if task.category in TOOLS else None


def demonstrate(env: Environment, tasks: Sequence[Task], agent: Agent, plan: Plan) -> list[Demo]:
    """All demonstrations of one environment and agent, in an order shuffled by the seed.

    Every task of a known category is shown once; cleaning tasks come again under made-up names until `plan.nonce` is reached.
    """
    known = [task for task in tasks if task.category not in plan.withheld]
    cleaning = [task for task in tasks if task.category == "clean"]
    jobs = [(task, False) for task in known]
    jobs += [(cleaning[i % len(cleaning)], True) for i in range(plan.nonce if cleaning else 0)]
    demos = []
    for number, task, nonce in tqdm(plan.taught(jobs, agent.name), desc="demonstrations", unit="demo", disable=None):
        rng = random.Random(f"demo|{plan.seed}|{number}|{task.task_id}")
        tool = draw_tool(rng, [kind(place) for place in listed(env.reset(task).text)]) if nonce else None
        hinted = nonce or rng.random() < plan.hinted_share
        useful = tool_hint(tool.verb, tool.place, rng) if tool else _known_hint(task, rng)
        hints = _hints(useful, rng) if hinted else ()
        messages = play(env, task, agent, hints, tool, rng.random() < plan.recovery_share, rng)
        if messages is not None:
            name = hashlib.sha256(f"{plan.seed}|{number}|{task.task_id}|{agent.name}".encode()).hexdigest()[:16]
            kind_ = "nonce" if nonce else task.category
            demos.append(Demo(SCHEMA_VERSION, name, task.task_id, task.env, agent.name, kind_, list(hints), messages))
    random.Random(f"demos|{plan.seed}").shuffle(demos)
    return demos
