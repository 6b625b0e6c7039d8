"""Purchases that fall short in a shop of made-up options, for demonstrations of hint writing."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Sequence
from dataclasses import replace

from tqdm import tqdm

from stages.agents.base import Agent
from stages.core.records import Demo, Episode
from stages.demonstrations import writing
from stages.demonstrations.plan import Plan, Writing
from stages.demonstrations.webshop.made_up_options import Choice, MadeUpOptions, draw_choices
from stages.demonstrations.webshop.shopper import Lost, Shopper
from stages.demonstrations.writing import Player
from stages.envs.base import Environment, Observation, Task
from stages.hinting.base import Failure
from stages.hinting.contrast import nearest
from stages.hinting.webshop import RULES

TURNS = 15  # of an episode
_NAMED = 0.7  # of the goals name a value of at least one made-up group
_CHOSEN = 0.3  # of the groups are chosen from as the instruction says


class JudgedOptions(MadeUpOptions):
    """Made-up options that count in the reward as real ones do."""

    def __init__(self, env: Environment, choices: Sequence[Choice], rng: random.Random) -> None:
        super().__init__(env, choices, rng)
        self._named = {choice.named for choice in choices if choice.named}
        self._met: set[str] = set()

    def reset(self, task: Task) -> Observation:
        self._met.clear()
        return super().reset(task)

    def step(self, action: str) -> Observation:
        seen = super().step(action)
        self._met |= {value for value in self._named if seen.text == f"You have clicked {value}."}
        if not seen.parts:
            return seen
        parts = {**seen.parts, "options_met": len(self._met), "options_wanted": len(self._named)}
        met, wanted = (sum(parts[f"{part}_{end}"] for part in ("attributes", "options")) for end in ("met", "wanted"))
        reward = parts["type_factor"] * (met + parts["price_met"]) / (wanted + 1)
        text = seen.text.removesuffix(str(seen.reward)) + str(reward)
        return replace(seen, text=text, reward=reward, parts={**parts, "reward": reward})


def demonstrate(env: Environment, tasks: Sequence[Task], agent: Agent, plan: Plan, wanted: Writing) -> list[Demo]:
    """Of `wanted.number` failures a demonstration each, in the order in which they were drawn, but none where the rules find nothing, nor without
    plain tasks.

    Where the instruction names made-up values, at least one of them is not chosen. A success stands beside each whose department has one.
    """
    plain = [task for task in tasks if task.skill == "plain"]
    settings = writing.all_told(wanted.settings)
    failed: list[tuple[int, Episode]] = []
    won: list[Episode] = []
    with tqdm(total=wanted.number, desc="hint writing", unit="failure", disable=None) as bar:
        numbers = itertools.count()
        while plain and len(failed) < wanted.number:
            number = next(numbers)
            rng = random.Random(f"writing|{plan.seed}|{number}")
            episode = _shop(env, plain[number % len(plain)], agent, rng)
            if episode and episode.success:
                won.append(episode)
            elif episode:
                failed.append((number, episode))
                bar.update()
    made = (writing.demo(Failure(e, None, nearest(e, won)), RULES, settings, f"{plan.seed}|{n}") for n, e in failed)
    return [demo for demo in made if demo]


def _shop(env: Environment, task: Task, agent: Agent, rng: random.Random) -> Episode | None:
    """One purchase in a shop of made-up options; None where the shopper finds nothing to buy."""
    choices = draw_choices(rng, least=1)
    if rng.random() >= _NAMED:
        choices = [replace(choice, named="") for choice in choices]
    named = [choice.group for choice in choices if choice.named]
    chosen = [group for group in named[1:] if rng.random() < _CHOSEN]
    rng.shuffle(choices)
    shop = JudgedOptions(env, choices, rng)
    opening = shop.reset(task).text
    goal = opening.partition("Instruction:")[2].partition("[Search]")[0].strip()
    return writing.play(shop, replace(task, goal=goal), agent, lambda text: _moves(text, chosen), TURNS, task.category)


def _moves(opening: str, chosen: Collection[str]) -> Player:
    try:
        shopper = Shopper(opening, chosen)
        while True:
            thought, action = shopper.decide()
            seen = yield thought, action, shopper.state
            shopper.observe(seen.text)
    except Lost:
        return
