"""Failures with made-up tools, and with known skills in too few turns, for demonstrations of hint writing.

The player searches as an explorer does. It does not know the tool: it tries the verb at places that are not the tool's, or brings the thing to
its place without it, and then looks for it elsewhere. Two further made-up tools stand in the room, of which a probe finds out that they do not help.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from alfworld.gen import constants
from tqdm import tqdm

from stages.agents.base import Agent
from stages.core.params import Hints
from stages.core.records import Demo, Episode
from stages.demonstrations import writing
from stages.demonstrations.alfworld.explorer import TOOLS, Explorer, Lost, kind
from stages.demonstrations.alfworld.nonce import NonceTool, Tool, draw_tool
from stages.demonstrations.plan import Plan, Writing
from stages.demonstrations.writing import Player
from stages.envs.base import Environment, Observation, Task
from stages.hinting.alfworld import RULES
from stages.hinting.alfworld.probe import probe
from stages.hinting.base import Failure

TURNS = 20  # of an episode
_KNOWN = 0.2  # of the failures are at a known skill, for want of turns
_VEILED = 0.4  # of those with made-up tools have a goal that does not say the verb: a probe tries the other tools too
_BESIDE = 0.4  # of the failures have a success of their category beside them
_TREATED = {thing.lower() for kind in ("Heatable", "Coolable") for thing in constants.VAL_ACTION_OBJECTS[kind]}


class OtherTools:
    """An environment in which the tools of some verbs go by made-up names, in observations, offers and actions alike."""

    def __init__(self, env: Environment, tools: Mapping[str, Tool]) -> None:
        self._env, self._tools = env, tools

    def reset(self, task: Task) -> Observation:
        return self._shown(self._env.reset(task))

    def step(self, action: str) -> Observation:
        for verb, tool in self._tools.items():
            action = re.sub(rf"\b{tool.place}\b", TOOLS[verb], re.sub(rf"^{tool.verb}\b", verb, action))
        return self._shown(self._env.step(action))

    def _shown(self, seen: Observation) -> Observation:
        return replace(seen, text=self.rename(seen.text), admissible=tuple(map(self.rename, seen.admissible)))

    def rename(self, text: str) -> str:
        """A text of the real environment as the made-up one would put it."""
        for verb, tool in self._tools.items():
            text = re.sub(rf"\b{TOOLS[verb]}\b", tool.place, re.sub(rf"\b{verb}\b", tool.verb, text))
        return text


@dataclass(frozen=True)
class World:
    """An environment, what its tools are (that of the task's verb, if any, as `tool`), and how a task's sentence reads there."""

    env: Environment
    tool: Tool | None

    def play(self, task: Task, agent: Agent, knows: bool, turns: int, rng: random.Random) -> Episode | None:
        """A task by a player that knows the tool, or one that does not; None where it gives up."""
        sentence = self.env.reset(task).text.rpartition("Your task is to: ")[2].strip().rstrip(".")
        category = self.tool.verb if self.tool else task.category
        told = replace(task, goal=sentence)

        def player(opening: str) -> Player:
            return _moves(opening, self.tool, knows, rng)

        return writing.play(self.env, told, agent, player, turns, category)


def made_up(env: Environment, veiled: bool, rng: random.Random) -> World:
    """A world of three made-up tools: the task's own and two that it has no use for. `veiled`: no goal's adjective tells the verb."""
    tools: list[Tool] = []
    while len(tools) < 3:
        tool = draw_tool(rng)
        words = {word for other in tools for word in (other.verb, other.place)}
        told = veiled and tool.state.startswith(tool.verb)
        if not words & {tool.verb, tool.place} and tool.verb != tool.place and not told:
            tools.append(tool)
    own, *others = tools
    return World(OtherTools(NonceTool(env, own), dict(zip(("heat", "cool"), others, strict=True))), own)


class Unoffered:
    """An environment that offers no action of some verbs."""

    def __init__(self, env: Environment, verbs: Sequence[str]) -> None:
        self._env, self._verbs = env, verbs

    def reset(self, task: Task) -> Observation:
        return self._shown(self._env.reset(task))

    def step(self, action: str) -> Observation:
        return self._shown(self._env.step(action))

    def _shown(self, seen: Observation) -> Observation:
        offered = tuple(a for a in seen.admissible if a.partition(" ")[0] not in self._verbs)
        return replace(seen, admissible=offered)


def demonstrate(env: Environment, tasks: Sequence[Task], agent: Agent, plan: Plan, wanted: Writing) -> list[Demo]:
    """As many demonstrations as are wanted, in the order in which they were drawn; none without cleaning tasks, whose rooms are lent to made-up
    tools."""
    cleaning = [task for task in tasks if task.category == "clean"]
    veiling = [t for t in cleaning if t.goal.startswith("put a ") and _TREATED & set(t.goal.split())]
    known = [task for task in tasks if task.category not in plan.withheld]
    settings = writing.all_told(wanted.settings)
    demos: list[Demo] = []
    numbers = itertools.count()
    with tqdm(total=wanted.number, desc="hint writing", unit="demo", disable=None) as bar:
        while cleaning and len(demos) < wanted.number:
            seed = f"{plan.seed}|{next(numbers)}"
            rng = random.Random(f"writing|{seed}")
            own = bool(known) and rng.random() < _KNOWN
            veiled = bool(veiling) and rng.random() < _VEILED
            world = World(Unoffered(env, plan.withheld), None) if own else made_up(env, veiled, rng)
            failure = _fail(world, known if own else veiling if veiled else cleaning, agent, settings, rng)
            made = writing.demo(failure, RULES, settings, seed) if failure else None
            if made:
                demos.append(made)
                bar.update()
    return demos


def _fail(world: World, tasks: Sequence[Task], agent: Agent, settings: Hints, rng: random.Random) -> Failure | None:
    """A failure at one of the tasks, with what a probe finds, and a success at another of its category beside part of them."""
    task = rng.choice(tasks)
    episode = world.play(task, agent, world.tool is None, TURNS if world.tool else rng.randint(3, 12), rng)
    if episode is None or episode.success:
        return None
    others = [other for other in tasks if other.category == task.category and other != task]
    success = world.play(rng.choice(others), agent, True, TURNS, rng) if others and rng.random() < _BESIDE else None
    found = probe(world.env, task, episode, settings.probing)
    return Failure(episode, found, success if success and success.success else None)


def _moves(opening: str, tool: Tool | None, knows: bool, rng: random.Random) -> Player:
    """What an explorer does, that knows the tool or tries up to two places that are none; once it has searched all, it goes to and fro."""
    verbs, states = ({tool.verb: tool.place}, {tool.state: tool.verb}) if tool else (TOOLS, None)
    explorer = Explorer(opening, verbs, states)
    tries = [] if knows or tool is None else _wrong_places(explorer, tool, rng)
    while True:
        if tool and not knows:
            explorer.tools, explorer.treated = {tool.verb: tries[0] if tries else ""}, not tries
        try:
            thought, action = explorer.decide()
        except Lost:
            places = sorted(explorer.contents.keys() - {explorer.at})
            if knows or not places:
                return
            place = rng.choice(places)
            thought, action = f"No {explorer.thing} here. Next: {place}.", f"go to {place}"
        seen = yield thought, action, explorer.state
        explorer.observe(action, seen.text)
        if tries and action.startswith(f"{explorer.verb} "):
            tries.pop(0)


def _wrong_places(explorer: Explorer, tool: Tool, rng: random.Random) -> list[str]:
    kinds = sorted({kind(place) for place in explorer.places} - {tool.place})
    return rng.sample(kinds, rng.randint(0, 2))
