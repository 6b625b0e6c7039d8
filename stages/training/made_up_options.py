"""Made-up choices: the real shop with one more group of options, which only a hint says to choose from.

`MadeUpOptions` wraps a WebShop environment in the papers' form: the instruction also names a value of a made-up group, item pages
offer that group, and a purchase without the value scores as one with an option missed. Such demonstrations teach the use of hints in
general: no real option is ever chosen in them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from stages.envs.base import Environment, Observation, Task

GROUPS: dict[str, tuple[str, ...]] = {
    "engraving": ("oak leaf", "anchor", "north star", "fern", "compass"),
    "gift card": ("thank you", "get well", "good luck", "season greetings"),
    "wrapping": ("kraft paper", "linen cloth", "silk ribbon", "newsprint"),
    "delivery": ("by bicycle", "by courier", "locker drop", "front desk"),
    "warranty": ("one year", "two years", "five years", "lifetime"),
    "stitching": ("cross stitch", "zigzag", "herringbone", "plain seam"),
    "charity": ("ocean fund", "tree fund", "book fund", "bee fund"),
    "monogram": ("block letters", "script letters", "roman letters"),
    "sticker": ("fragile", "handle with care", "keep dry", "this side up"),
    "packing": ("straw", "bubble film", "paper wool", "foam"),
    "handle": ("left side", "right side", "top mount", "loop"),
    "emblem": ("lion", "falcon", "whale", "stag", "owl"),
    "coating": ("matte", "glossy", "satin", "velvet"),
    "edition": ("spring", "autumn", "harbour", "meadow"),
    "seal": ("wax", "foil", "embossed", "stamped"),
}
_FORMS = ("with {value} {group}", "and the {group} should be {value}", "{group}: {value}", "in {value} {group}")


@dataclass(frozen=True)
class Choice:
    """A made-up group, the values offered, the one wanted, and how the instruction says so."""

    group: str
    values: tuple[str, ...]
    wanted: str
    phrase: str


def draw_choice(rng: random.Random) -> Choice:
    """A group and a wanted value at random."""
    group = rng.choice(sorted(GROUPS))
    values = rng.sample(GROUPS[group], rng.randint(2, 3))
    wanted = rng.choice(values)
    return Choice(group, tuple(values), wanted, rng.choice(_FORMS).format(group=group, value=wanted))


class MadeUpOptions:
    """A shop whose item pages offer one more group."""

    def __init__(self, env: Environment, choice: Choice) -> None:
        self._env, self._choice = env, choice
        self._at_item = self._chosen = False
        self._seen = Observation("", (), 0.0, False, True)

    def reset(self, task: Task) -> Observation:
        self._at_item = self._chosen = False
        seen = self._env.reset(task)
        cut = f" {self._choice.phrase}"
        head, comma, price = seen.text.partition(", and price lower than")
        if not comma:
            head, comma, price = seen.text.partition(" \n[Search]")
        return self._shown(replace(seen, text=f"{head.rstrip()},{cut}{comma}{price}"))

    def step(self, action: str) -> Observation:
        value = action.removeprefix("click[").removesuffix("]")
        if self._at_item and value in self._choice.values:
            self._chosen = value == self._choice.wanted
            return replace(self._seen, text=f"You have clicked {value}.", valid=True)
        seen = self._env.step(action)
        if seen.done and not self._chosen:
            seen = replace(seen, reward=seen.reward / 2)
        return self._shown(seen)

    def _shown(self, seen: Observation) -> Observation:
        self._at_item = "[Buy Now]" in seen.text
        if self._at_item:
            group = f"\n{self._choice.group} " + "".join(f"[{value}]" for value in self._choice.values)
            seen = replace(
                seen,
                text=seen.text.replace("\n[< Prev] ", f"\n[< Prev] {group}", 1),
                admissible=(*seen.admissible, *(f"click[{value}]" for value in self._choice.values)),
            )
        self._seen = seen
        return seen
