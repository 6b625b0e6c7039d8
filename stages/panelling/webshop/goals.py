"""What shoppers are asked for: upstream's human and synthetic goals, with price caps drawn from an explicit seed.

Upstream draws its caps before it seeds anything, so they differ from one start of its server to the next.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator

from stages.envs.webshop.records import Goal, Product
from stages.panelling.webshop.official import OfficialData, OfficialError

NO_CAP = 1_000_000.0
SHUFFLE_SEED = 233
SPLITS: dict[str, tuple[int, int | None]] = {"test": (0, 500), "dev": (500, 1500), "train": (1500, None)}
"""Upstream's splits of the shuffled human goals."""

_STEPS = tuple(10.0 * step for step in range(1, 100))


def human_goals(data: OfficialData, seed: int) -> list[Goal]:
    """Goals that people wrote, each of weight 1, shuffled as upstream. Raises `OfficialError` where there is none."""
    rng = random.Random(seed)
    goals = []
    for product in data.products:
        for row in data.human.get(product.asin, ()):
            if row.instruction_attributes:
                cap, clause = _cap(product.price, rng)
                text = row.instruction.strip(".") + clause
                attributes, options = tuple(row.instruction_attributes), tuple(row.instruction_options)
                goals.append(Goal(product.asin, text, attributes, options, cap, 1.0))
    return _shuffled(goals, "human")


def synthetic_goals(data: OfficialData, seed: int) -> list[Goal]:
    """A goal for every combination of a product's options; rare attributes weigh more. Shuffled as upstream."""
    rng = random.Random(seed)
    goals = [goal for product in data.products for goal in _combinations(data, product, rng)]
    seen = Counter(attribute for goal in goals for attribute in goal.attributes)
    weighed = [
        Goal(
            g.asin,
            g.instruction,
            g.attributes,
            g.options,
            g.cap,
            sum(1 / seen[a] for a in g.attributes) / len(g.attributes),
        )
        for g in goals
        if g.attributes
    ]
    return _shuffled(weighed, "synthetic")


def _combinations(data: OfficialData, product: Product, rng: random.Random) -> Iterator[Goal]:
    if product.asin not in data.synthetic:
        return
    text, attributes = data.synthetic[product.asin]
    cap, clause = _cap(product.price, rng)
    groups = sorted(product.options)
    for values in itertools.product(*(product.options[group] for group in groups)):
        options = tuple(zip(groups, values, strict=True))
        named = ", and ".join(f"{group}: {value}" for group, value in options)
        yield Goal(product.asin, text + (f" with {named}" if named else "") + clause, attributes, options, cap, 1.0)


def _cap(price: float, rng: random.Random) -> tuple[float, str]:
    """The larger of two of the next four multiples of ten dollars, and the words for it; none for the dearest."""
    above = [step for step in _STEPS if step > price][:4]
    if len(above) < 2:
        return NO_CAP, ""
    cap = max(rng.sample(above, 2))
    return cap, f", and price lower than {cap:.2f} dollars"


def _shuffled(goals: list[Goal], kind: str) -> list[Goal]:
    if not goals:
        raise OfficialError(
            f"the data hold no {kind} goals for their products; items_human_ins.json may be of another release"
        )
    random.Random(SHUFFLE_SEED).shuffle(goals)
    return goals
