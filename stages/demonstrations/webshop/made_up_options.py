"""Made-up options: the real shop with other groups of options than its own, which only a hint says to choose from.

`MadeUpOptions` wraps a WebShop environment in the papers' form: item pages offer made-up groups in place of their own, and the instruction
names a value of most of them in the words it uses for real ones. They cost nothing and earn nothing: a demonstration chooses from a
group if a hint names it, and leaves it alone if none does, so that only the hint tells. Such demonstrations teach the use of hints in general: no real
option is ever shown in them. Names and values are many, since a model that meets few learns them by heart.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stages.envs.base import Environment, Observation, Task
from stages.panelling.webshop.generator import options_clause

_WHERE = ("", "", "inner", "outer", "upper", "lower", "front", "rear", "spare", "second", "main", "gift", "side", "top")
_WHAT = (
    "handle lid strap trim knob hinge cover base frame edge rim seal label pocket zipper collar cuff heel lace button clasp chain ring "
    "band stitch print motif emblem badge logo sticker ribbon wrap box card tag bow charm cord plug switch dial lens nozzle wheel leg "
    "panel tray hook mount bracket lining thread pin buckle sleeve grip foot cap"
)
_VALUES = (
    "anchor fern maple comet harbour meadow river canyon lantern falcon whale stag owl lion tulip clover willow cedar pebble ember frost "
    "dune cliff island bridge tower castle arrow feather shell pearl star moon planet rocket round oval hexagon diamond wavy zigzag "
    "herringbone checked dotted striped matte glossy satin brushed hammered engraved stamped embossed braided woven quilted "
    "single double triple narrow wide tall low left right early late morning evening spring autumn courier bicycle locker"
)
_NAMED = 0.85  # of the further groups have a value in the instruction
_UNITS = ("rows", "dots", "stripes", "knots", "mm", "holes", "pleats", "turns", "beads", "layers")


@dataclass(frozen=True)
class Choice:
    """A made-up group, the values offered, and the one that the instruction names (empty: none)."""

    group: str
    values: tuple[str, ...]
    named: str


def draw_group(rng: random.Random) -> str:
    """A group's name."""
    return f"{rng.choice(_WHERE)} {rng.choice(_WHAT.split())}".strip()


def draw_choices(rng: random.Random, least: int) -> list[Choice]:
    """`least` to three groups, mostly two as on real pages; of those after the first `least`, most are named in the instruction."""
    groups = list(dict.fromkeys(draw_group(rng) for _ in range(rng.choice((least, 2, 2, 2, 2, 3)))))
    stock = rng.sample(_VALUES.split(), 24)
    units = rng.sample(_UNITS, 3)
    numbers = rng.sample(range(2, 60), 24)
    choices: list[Choice] = []
    for group in groups:
        values = _draw_values(rng, stock, units, numbers)
        named = len(choices) < least or rng.random() < _NAMED
        choices.append(Choice(group, values, rng.choice(values) if named else ""))
    return choices


def _draw_values(rng: random.Random, stock: list[str], units: list[str], numbers: list[int]) -> tuple[str, ...]:
    """Two to four values: each of one or two of the words that are left, or all of numbers that are left, so that none names another."""
    count, unit = rng.randint(2, 4), units.pop()
    if rng.random() < 0.5:
        return tuple(" ".join(stock.pop() for _ in range(rng.randint(1, 2))) for _ in range(count))
    form = rng.choice(("{0} {unit}", "{0}", "{0}.5", "{0} x {1} {unit}", "row of {0}"))
    drawn = sorted(numbers.pop() for _ in range(count))
    return tuple(form.format(number, numbers.pop(), unit=unit) for number in drawn)


class MadeUpOptions:
    """A shop whose item pages offer `choices` in place of their own options. `rng` draws the instruction's wording."""

    def __init__(self, env: Environment, choices: Sequence[Choice], rng: random.Random) -> None:
        self._env, self._choices = env, choices
        named = [(choice.group, choice.named) for choice in choices if choice.named]
        self._clause = options_clause(dict(rng.sample(named, len(named))), rng)
        self._offered = {value for choice in choices for value in choice.values}
        self._seen = Observation("", (), 0.0, False, True)

    def reset(self, task: Task) -> Observation:
        seen = self._env.reset(task)
        head, comma, price = seen.text.partition(", and price lower than")
        if not comma:
            head, comma, price = seen.text.partition(" \n[Search]")
        return self._shown(replace(seen, text=f"{head.rstrip()}{self._clause}{comma}{price}"))

    def step(self, action: str) -> Observation:
        value = action.removeprefix("click[").removesuffix("]")
        if "[Buy Now]" in self._seen.text and value in self._offered:
            return replace(self._seen, text=f"You have clicked {value}.", valid=True)
        return self._shown(self._env.step(action))

    def _shown(self, seen: Observation) -> Observation:
        if "[Buy Now]" in seen.text:
            groups = "".join(f"\n{c.group} " + "".join(f"[{value}]" for value in c.values) for c in self._choices)
            text = re.sub(
                r"\n\[< Prev\] (?:\n[^\[\n]+ (?:\[[^\n]+\])+)*", lambda _: f"\n[< Prev] {groups}", seen.text, count=1
            )
            offered = tuple(f"click[{value}]" for value in sorted(self._offered))
            seen = replace(seen, text=text, admissible=offered)
        self._seen = seen
        return seen
