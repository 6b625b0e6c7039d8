"""Made-up tools: the real engine under other names, so that only a hint tells what to do.

`NonceTool` wraps an environment that plays a cleaning task and renames the verb, its place and the goal's adjective:
"clean some mug ..." at a sinkbasin becomes, say, "stamp some mug ..." at a printer. Other places are renamed too: the tool may be an ordinary place of the
room, a sinkbasin may stand where it is of no use, and another odd place beside it. So neither habit nor oddity leads to the tool,
and the hint does (the order in which an opening lists its places tells something of the tool too). Such demonstrations teach the use of hints in general, and not one skill that a study withholds.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stages.envs.base import Environment, Observation, Task

# Verb and goal adjective, which may be the same word. None is a synonym of a skill that a study may withhold (nothing warms, toasts or chills).
VERBS = (
    ("stamp", "stamped"), ("scan", "scanned"), ("polish", "shiny"), ("press", "flat"), ("sharpen", "sharp"),
    ("wrap", "wrapped"), ("weigh", "weighed"), ("paint", "colorful"), ("label", "labeled"), ("fold", "folded"),
    ("charge", "charged"), ("dry", "dry"), ("grind", "fine"), ("measure", "measured"), ("dust", "dustless"),
    ("soak", "wet"), ("brush", "smooth"), ("print", "printed"), ("seal", "sealed"), ("bless", "holy"),
    ("salt", "salty"), ("varnish", "glossy"), ("mend", "whole"), ("dye", "red"), ("tag", "tagged"),
    ("level", "level"), ("thin", "thin"), ("blank", "blank"), ("sour", "sour"), ("smooth", "smooth"),
    ("dull", "dull"), ("perfect", "perfect"), ("tame", "tame"), ("sweeten", "sweet"), ("lighten", "light"),
)  # fmt: skip
TOOLS = (
    "dishwasher", "blender", "dryer", "scale", "printer", "press", "rack", "workbench", "washer", "grinder",
    "scanner", "mixer", "lathe", "shredder", "charger", "fan", "altar", "basket", "machine", "stand",
)  # fmt: skip


_SINK = "sinkbasin"
_APPLIANCES = (
    "fridge",
    "microwave",
    "stoveburner",
    "coffeemachine",
    "toaster",
)  # keep their names: what they do may be withheld
_FEW = 3  # places of a class that is given another name, at most


@dataclass(frozen=True)
class Tool:
    """A made-up verb, the adjective its goals use, and what the classes of places are called, that of the sinkbasin first of all. `shut`: the
    tool's place has a door, which need not be open for it to work, as with ALFWorld's own appliances."""

    verb: str
    state: str
    names: Mapping[str, str]
    shut: bool

    @property
    def place(self) -> str:
        """The class of place where it is done."""
        return self.names[_SINK]


def draw_tool(rng: random.Random, room: Sequence[str] = ()) -> Tool:
    """A verb and a place at random: which belong together is nothing a model could know beforehand. `room` are the classes of the places
    there, one for each place."""
    verb, state = rng.choice(VERBS)
    odd, decoy = rng.sample(TOOLS, 2)
    few = [k for k in dict.fromkeys(room) if room.count(k) <= _FEW and k not in (_SINK, *_APPLIANCES)]
    one, other = rng.sample(few, 2) if len(few) > 1 else ("", "")
    kind = rng.random()
    names = {_SINK: odd}
    if one and kind < 0.4:
        names |= {_SINK: one, one: _SINK}
    elif one and kind < 0.8:
        names |= {one: _SINK}
    if other and rng.random() < 0.5:
        names |= {other: decoy}
    return Tool(verb, state, names, rng.random() < 0.5)


class NonceTool:
    """An environment whose cleaning is called by another name, in observations, offers and actions alike."""

    def __init__(self, env: Environment, tool: Tool) -> None:
        self._env = env
        self._tool = tool
        self._real = {name: place for place, name in tool.names.items()}
        self._opened: set[str] = set()

    def reset(self, task: Task) -> Observation:
        self._opened.clear()
        return self._shown(self._env.reset(task))

    def step(self, action: str) -> Observation:
        tool = self._tool
        action = re.sub(rf"^{tool.verb}\b", "clean", action)  # first: a verb may also be a place ("press")
        action = _renamed(action, self._real)
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
        return _renamed(text, tool.names)

    def _behind_a_door(self, contents: re.Match[str]) -> str:
        place, things = contents.groups()
        return f"The {place} is open. In it, you see {things}." if place in self._opened else f"The {place} is closed."


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """All names at once, since two places may have exchanged theirs."""
    return re.sub(rf"\b({'|'.join(names)})\b", lambda found: names[found[1]], text)
