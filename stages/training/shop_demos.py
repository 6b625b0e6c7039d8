"""Warm-up demonstrations on WebShop: what the shopper thinks, does and sees, as chat conversations.

They show how to search, compare and buy, for goals that want no option. How to choose one is shown on made-up groups alone, always with
the hint that says so; real options are a skill that a study can withhold. Only purchases of reward 1 are kept.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from tqdm import tqdm

from stages.agents.base import Agent
from stages.envs.base import Environment, Task
from stages.envs.webshop.shopper import Lost, Shopper
from stages.hinting.wording import OPTION_FORMS, SHOP_GENERIC
from stages.records import SCHEMA_VERSION, Demo, Message
from stages.training.demos import Plan
from stages.training.made_up_options import Choice, MadeUpOptions, draw_choice

MAX_STEPS = 8


def option_hint(group: str, rng: random.Random) -> str:
    """How to choose from a group, in one of the wordings that the hint writer uses."""
    return rng.choice(OPTION_FORMS).format(group=group)


def play(
    env: Environment, task: Task, agent: Agent, hints: tuple[str, ...], choice: Choice | None
) -> list[Message] | None:
    """One demonstration as chat messages, or None where the shopper does not reach a reward of 1."""
    world: Environment = MadeUpOptions(env, choice) if choice else env
    seen = world.reset(task)
    messages = agent.prompt(task.env, seen.text, hints).messages()
    try:
        shopper = Shopper(seen.text, [choice.group] if choice else [])
        for _ in range(MAX_STEPS):
            thought, action = shopper.decide()
            messages.append(Message("assistant", agent.render(thought, action), train=True))
            seen = world.step(action)
            if seen.done:
                return messages if seen.reward == 1.0 else None
            shopper.observe(seen.text)
            messages.append(Message("user", seen.text))
    except Lost:
        pass
    return None


def _hints(first: str | None, rng: random.Random) -> tuple[str, ...]:
    """One to three hints in random order: the useful one if there is any, others as noise."""
    noise = rng.sample(SHOP_GENERIC, 3)
    if rng.random() < 0.5:
        noise.insert(0, option_hint(draw_choice(rng).group, rng))
    hints = [first] if first else []
    hints += noise[: rng.randint(1, 3) - len(hints)]
    rng.shuffle(hints)
    return tuple(hints)


def demonstrate(env: Environment, tasks: Sequence[Task], agent: Agent, plan: Plan) -> list[Demo]:
    """All demonstrations, in an order shuffled by the seed: each task of a known skill once, then again with a made-up group until
    `plan.nonce` tries are used up."""
    known = [task for task in tasks if task.skill not in plan.withheld]
    plain = [task for task in known if task.skill == "plain"]
    jobs = [(task, False) for task in known]
    jobs += [(plain[i % len(plain)], True) for i in range(plan.nonce if plain else 0)]
    demos = []
    for number, (task, nonce) in enumerate(tqdm(jobs, desc="demonstrations", unit="demo", disable=None)):
        rng = random.Random(f"demo|{plan.seed}|{number}|{task.task_id}")
        choice = draw_choice(rng) if nonce else None
        hinted = nonce or rng.random() < plan.hinted_share
        hints = _hints(option_hint(choice.group, rng) if choice else None, rng) if hinted else ()
        messages = play(env, task, agent, hints, choice)
        if messages is not None:
            name = hashlib.sha256(f"{plan.seed}|{number}|{task.task_id}|{agent.name}".encode()).hexdigest()[:16]
            kind = "nonce" if nonce else task.skill
            demos.append(Demo(SCHEMA_VERSION, name, task.task_id, task.env, agent.name, kind, list(hints), messages))
    random.Random(f"demos|{plan.seed}").shuffle(demos)
    return demos
