"""Made-up choices: the real shop with more groups of options, which only a hint says to choose from.

`MadeUpOptions` wraps a WebShop environment in the papers' form: item pages offer made-up groups, and the instruction names a value of
most of them in the words it uses for real ones. They cost nothing and earn nothing: a demonstration chooses from a group if a hint
names it, and leaves it alone if none does, so that only the hint tells. Such demonstrations teach the use of hints in general: no real
option is ever chosen in them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stages.envs.base import Environment, Observation, Task
from stages.envs.webshop.generator import options_clause

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


@dataclass(frozen=True)
class Choice:
    """A made-up group, the values offered, and the one that the instruction names (empty: none)."""

    group: str
    values: tuple[str, ...]
    named: str


def draw_choices(rng: random.Random) -> list[Choice]:
    """One to three groups at random; the first is named in the instruction, of the others two in three."""
    choices: list[Choice] = []
    for group in rng.sample(sorted(GROUPS), rng.randint(1, 3)):
        values = tuple(rng.sample(GROUPS[group], rng.randint(2, 3)))
        named = not choices or rng.random() < 2 / 3
        choices.append(Choice(group, values, rng.choice(values) if named else ""))
    return choices


class MadeUpOptions:
    """A shop whose item pages offer more groups. `rng` draws the instruction's wording."""

    def __init__(self, env: Environment, choices: Sequence[Choice], rng: random.Random) -> None:
        self._env, self._choices = env, choices
        self._clause = options_clause({c.group: c.named for c in choices if c.named}, rng)
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
            seen = replace(
                seen,
                text=seen.text.replace("\n[< Prev] ", f"\n[< Prev] {groups}", 1),
                admissible=(*seen.admissible, *(f"click[{value}]" for value in sorted(self._offered))),
            )
        self._seen = seen
        return seen
