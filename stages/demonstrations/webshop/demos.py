"""Warm-up demonstrations on WebShop: what the shopper thinks, does and sees, as chat conversations.

They show how to search, read prices and buy, for goals that want no option. How to choose one is a skill that a study can withhold: then
made-up groups stand on the pages in place of the real ones, and are chosen from only where a hint says so. Purchases of reward 1 are kept,
and those that pass over a first product which costs too much, if all they lack is a quality: titles show few of them, and prices count.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Sequence
from dataclasses import replace

from tqdm import tqdm

from stages.agents.base import Agent
from stages.core.records import SCHEMA_VERSION, Demo, Message
from stages.demonstrations.plan import Plan
from stages.demonstrations.webshop.made_up_options import MadeUpOptions, draw_choices, draw_group
from stages.demonstrations.webshop.shopper import Lost, Shopper
from stages.envs.base import Environment, Observation, Task
from stages.language.shopping import OPTION_FORMS, SHOP_GENERIC
from stages.panelling.webshop.goals import NO_CAP

MAX_STEPS = 10
_LOWERED = 0.5  # of the price limits are lowered, or too few first products would cost too much
_HINTED = 0.85  # of a demonstration's further made-up groups have their hint too
_NOISE = 0.5  # of the hinted demonstrations also show the hint of a group that is not there


def option_hint(group: str, rng: random.Random) -> str:
    """How to choose from a group, in one of the wordings that the hint writer uses."""
    return rng.choice(OPTION_FORMS).format(group=group)


def play(
    env: Environment, task: Task, agent: Agent, hints: tuple[str, ...], choose: Collection[str] | None
) -> list[Message] | None:
    """One demonstration as chat messages, or None where what the shopper buys is not worth showing. `choose` are the option groups that it
    chooses from."""
    seen = env.reset(task)
    messages = agent.prompt(seen.text, hints).messages()
    try:
        shopper = Shopper(seen.text, choose)
        for _ in range(MAX_STEPS):
            thought, action = shopper.decide()
            messages.append(Message("assistant", agent.render(thought, action, shopper.state), train=True))
            seen = env.step(action)
            if seen.done:
                return messages if seen.reward == 1.0 or (shopper.passed_over and _lacks_qualities(seen)) else None
            shopper.observe(seen.text)
            messages.append(Message("user", seen.text))
    except Lost:
        pass
    return None


def _lacks_qualities(bought: Observation) -> bool:
    """Whether a purchase meets all of its goal but qualities."""
    parts = bought.parts
    return parts["type_factor"] == 1 and parts["price_met"] == 1 and parts["options_met"] == parts["options_wanted"]


def lowered(task: Task, rng: random.Random) -> Task:
    """The goal with a price limit from half its own on, in tens of dollars as limits are; the same where it has none."""
    limit = task.spec["cap"]
    if limit == NO_CAP:
        return task
    lower = 10.0 * rng.randint(max(1, int(limit // 20)), int(limit // 10))
    text = task.spec["instruction"].replace(f"lower than {limit:.2f}", f"lower than {lower:.2f}")
    return replace(task, spec={**task.spec, "cap": lower, "instruction": text})


def _hints(groups: Sequence[str], rng: random.Random) -> tuple[str, ...]:
    """One to three hints in random order: those of the groups, others as noise."""
    noise = rng.sample(SHOP_GENERIC, 3)
    if rng.random() < _NOISE:
        noise.insert(0, option_hint(draw_group(rng), rng))
    hints = [option_hint(group, rng) for group in groups]
    hints += noise[: rng.randint(max(1, len(hints)), 3) - len(hints)]
    rng.shuffle(hints)
    return tuple(hints)


def demonstrate(env: Environment, tasks: Sequence[Task], agent: Agent, plan: Plan) -> list[Demo]:
    """All demonstrations, in an order shuffled by the seed: each task of a known skill once, then plain ones again, with hints to choose from
    made-up groups, until `plan.nonce` tries are used up."""
    hidden = "options" in plan.withheld
    known = [task for task in tasks if task.skill not in plan.withheld]
    plain = [task for task in known if task.skill == "plain"]
    jobs = [(task, False) for task in known]
    jobs += [(plain[i % len(plain)], True) for i in range(plan.nonce if plain else 0)]
    demos = []
    for number, task, nonce in tqdm(plan.taught(jobs, agent.name), desc="demonstrations", unit="demo", disable=None):
        rng = random.Random(f"demo|{plan.seed}|{number}|{task.task_id}")
        choices = draw_choices(rng, least=int(nonce))
        chosen = [c.group for n, c in enumerate(choices) if nonce and (n == 0 or rng.random() < _HINTED)]
        hints = _hints(chosen, rng) if nonce or rng.random() < plan.hinted_share else ()
        shop = MadeUpOptions(env, choices, rng) if nonce or hidden else env
        goal = lowered(task, rng) if rng.random() < _LOWERED else task
        messages = play(shop, goal, agent, hints, chosen if nonce or hidden else None)
        if messages is not None:
            name = hashlib.sha256(f"{plan.seed}|{number}|{task.task_id}|{agent.name}".encode()).hexdigest()[:16]
            kind = "nonce" if nonce else task.skill
            demos.append(Demo(SCHEMA_VERSION, name, task.task_id, task.env, agent.name, kind, list(hints), messages))
    random.Random(f"demos|{plan.seed}").shuffle(demos)
    return demos
