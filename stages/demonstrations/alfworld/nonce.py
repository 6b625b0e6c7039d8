"""Made-up tools: the real engine under other names, so that only a hint tells what to do.

`NonceTool` wraps an environment that plays a cleaning task and renames the verb, its place and the goal's adjective:
"clean some mug ..." at a sinkbasin becomes, say, "stamp some mug ..." at a printer. Such demonstrations teach the use of hints
in general, and not one skill that a study withholds.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace

from stages.envs.base import Environment, Observation, Task

# Verb and goal adjective. None is a synonym of a skill that a study may withhold (nothing warms, toasts or chills).
VERBS = (
    ("stamp", "stamped"), ("scan", "scanned"), ("polish", "shiny"), ("press", "flat"), ("sharpen", "sharp"),
    ("wrap", "wrapped"), ("weigh", "weighed"), ("paint", "colorful"), ("label", "labeled"), ("fold", "folded"),
    ("charge", "charged"), ("dry", "dry"), ("grind", "fine"), ("measure", "measured"), ("dust", "dustless"),
    ("soak", "wet"), ("brush", "smooth"), ("print", "printed"), ("seal", "sealed"), ("bless", "holy"),
    ("salt", "salty"), ("varnish", "glossy"), ("mend", "whole"), ("dye", "red"), ("tag", "tagged"),
)  # fmt: skip
TOOLS = (
    "dishwasher", "blender", "dryer", "scale", "printer", "press", "rack", "workbench", "washer", "grinder",
    "scanner", "mixer", "lathe", "shredder", "charger", "fan", "altar", "basket", "machine", "stand",
)  # fmt: skip


@dataclass(frozen=True)
class Tool:
    """A made-up verb, the adjective its goals use, and the class of place where it is done. `shut`: that place has a door,
    which need not be open for the tool to work, as with ALFWorld's own appliances."""

    verb: str
    state: str
    place: str
    shut: bool


def draw_tool(rng: random.Random) -> Tool:
    """A verb and a place at random: which belong together is nothing a model could know beforehand."""
    verb, state = rng.choice(VERBS)
    return Tool(verb, state, rng.choice(TOOLS), rng.random() < 0.5)


class NonceTool:
    """An environment whose cleaning is called by another name, in observations, offers and actions alike."""

    def __init__(self, env: Environment, tool: Tool) -> None:
        self._env = env
        self._tool = tool
        self._opened: set[str] = set()

    def reset(self, task: Task) -> Observation:
        self._opened.clear()
        return self._shown(self._env.reset(task))

    def step(self, action: str) -> Observation:
        tool = self._tool
        action = re.sub(rf"^{tool.verb}\b", "clean", action)  # first: a verb may also be a place ("press")
        action = re.sub(rf"\b{tool.place}\b", "sinkbasin", action)
        arrival = re.match(r"You arrive at (sinkbasin \d+)\. ", self._seen.text)
        if tool.shut and arrival and action == f"open {arrival[1]}":
            self._opened.add(arrival[1])
            text = f"You open the {arrival[1]}. {self._seen.text[arrival.end() :]}"
            return self._shown(replace(self._seen, text=text, valid=True))
        return self._shown(self._env.step(action))

    def _shown(self, seen: Observation) -> Observation:
        self._seen = seen
        return replace(seen, text=self.rename(seen.text), admissible=tuple(map(self.rename, seen.admissible)))

    def rename(self, text: str) -> str:
        """A text of the real environment as the made-up one would put it."""
        tool = self._tool
        text = re.sub(r"\bput a clean\b", f"put a {tool.state}", text)
        text = re.sub(r"\bclean\b", tool.verb, text)
        if tool.shut:
            text = re.sub(r"On the (sinkbasin \d+), you see ([^.]*)\.", self._behind_a_door, text)
        return re.sub(r"\bsinkbasin\b", tool.place, text)

    def _behind_a_door(self, contents: re.Match[str]) -> str:
        place, things = contents.groups()
        return f"The {place} is open. In it, you see {things}." if place in self._opened else f"The {place} is closed."
