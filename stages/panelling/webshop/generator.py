"""A seeded catalogue in WebShop's official file format, for studies without the official data.

Made to be about as hard for simple policies as the real one: titles name few of a product's qualities, first bullets say nothing, most
products have a sibling that differs in one quality or in price, and some instructions put an option in other words. As in real titles, nouns
come twice, brands bear marks such as ®, and a few words are in another script.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.panelling.webshop.official import FILES
from stages.panelling.webshop.vocabulary import (
    HAN_NAMES,
    KINDS,
    MARKS,
    OCCASIONS,
    OTHER_WORDS,
    PRAISE,
    QUALITIES,
    REQUESTS,
    SYLLABLES,
    Kind,
)

_INSTRUCTIONS = 4  # people's goals a product
_SIBLINGS = 0.62  # of the products are near-duplicates of the one before
_IN_TITLE = 0.18  # of a product's qualities its title names
_NAMED_TWICE = 0.4  # of the titles name the product again, for an occasion (42 % of real titles repeat a noun)
_MARKED = 0.15  # of the titles put a mark behind the brand
_IN_HAN = 0.1  # of the titles of kinds with a Chinese name hold it
_WITH_OPTIONS = 0.65  # of the goals want an option
_OTHER_WORDS = 0.5  # of the wanted values that have other words are put in them
_RANGE = 0.15  # of the prices are ranges


@dataclass(frozen=True)
class _Draft:
    """A product before it is written down."""

    department: str
    kind: Kind
    brand: str
    qualities: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]
    price: float


def generate(folder: Path, products: int, seed: int) -> None:
    """Write the three files of a catalogue of so many products. The same seed gives the same bytes."""
    rng = random.Random(f"webshop|{seed}")
    items: list[dict[str, Any]] = []
    attributes: dict[str, Any] = {}
    human: dict[str, Any] = {}
    kinds = [(department, kind) for department, found in KINDS.items() for kind in found]
    previous: dict[str, _Draft] = {}
    for number in range(products):
        department, kind = kinds[number % len(kinds)]
        twin = previous.get(kind.query) if rng.random() < _SIBLINGS else None
        draft = _sibling(twin, rng) if twin else _draft(department, kind, rng)
        previous[kind.query] = draft
        asin = _asin(set(attributes), rng)
        items.append(_item(asin, draft, rng))
        attributes[asin] = _attributes(draft, rng)
        human[asin] = [_instruction(asin, draft, rng) for _ in range(_INSTRUCTIONS)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in zip(FILES["1000"], (items, attributes, human), strict=True):
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _asin(taken: set[str], rng: random.Random) -> str:
    while True:
        asin = "B0" + "".join(rng.choices(string.digits + string.ascii_uppercase, k=8))
        if asin not in taken:
            return asin


def _draft(department: str, kind: Kind, rng: random.Random) -> _Draft:
    options = {
        group: tuple(v for v in values if v in chosen)
        for group, values in kind.options.items()
        if (chosen := rng.sample(values, rng.randint(2, min(4, len(values)))))
    }
    qualities = tuple(rng.sample(QUALITIES[department], rng.randint(3, 5)))
    brand = "".join(rng.sample(SYLLABLES, 2)).title()
    return _Draft(department, kind, brand, qualities, options, round(rng.uniform(*kind.prices), 2))


def _sibling(twin: _Draft, rng: random.Random) -> _Draft:
    """The same product but for one quality, or for its price."""
    if rng.random() < 0.6:
        others = [quality for quality in QUALITIES[twin.department] if quality not in twin.qualities]
        place = rng.randrange(len(twin.qualities))
        qualities = (*twin.qualities[:place], rng.choice(others), *twin.qualities[place + 1 :])
        return _Draft(twin.department, twin.kind, twin.brand, qualities, twin.options, twin.price)
    price = round(twin.price * rng.uniform(1.5, 2.5), 2)
    return _Draft(twin.department, twin.kind, twin.brand, twin.qualities, twin.options, price)


def _item(asin: str, draft: _Draft, rng: random.Random) -> dict[str, Any]:
    bullets = [
        rng.choice(PRAISE),
        *(f"{quality.upper()}: made so that it is {quality}." for quality in draft.qualities),
    ]
    high = draft.price * rng.uniform(1.1, 1.5)
    return {
        "asin": asin,
        "name": _title(draft, rng),
        "category": draft.department,
        "query": draft.kind.query,
        "product_category": " \u203a ".join(draft.kind.path),
        "full_description": f"{draft.brand} {draft.kind.name}. {rng.choice(PRAISE)}",
        "small_description": bullets,
        "pricing": f"${draft.price:.2f}" + (f"${high:.2f}" if rng.random() < _RANGE else ""),
        "customization_options": {
            group: [{"value": value, "image": None} for value in values] for group, values in draft.options.items()
        },
    }


def _title(draft: _Draft, rng: random.Random) -> str:
    shown = [quality.title() for quality in draft.qualities if rng.random() < _IN_TITLE]
    brand = draft.brand + (rng.choice(MARKS) if rng.random() < _MARKED else "")
    han = HAN_NAMES.get(draft.kind.query) if rng.random() < _IN_HAN else None
    title = " ".join([brand, *shown[:1], draft.kind.name, *([han] if han else [])])
    title += f" with {', '.join(shown[1:3])}" if shown[1:] else ""
    if rng.random() < _NAMED_TWICE:
        title += f", {rng.choice(OCCASIONS[draft.department])} {draft.kind.name}"
    return title + f", Model {rng.choice('ABCDEFGH')}{rng.randint(10, 99)}"


def _attributes(draft: _Draft, rng: random.Random) -> dict[str, Any]:
    """The product's attributes, and what the synthetic goals ask for."""
    wanted = rng.sample(draft.qualities, rng.randint(1, 2))
    return {
        "attributes": list(draft.qualities),
        "instruction": f"Find me {', '.join(wanted)} {draft.kind.query}",
        "instruction_attributes": wanted,
    }


def _instruction(asin: str, draft: _Draft, rng: random.Random) -> dict[str, Any]:
    wanted = rng.sample(draft.qualities, rng.randint(1, 3))
    options: dict[str, str] = {}
    if rng.random() < _WITH_OPTIONS:
        groups = rng.sample(sorted(draft.options), rng.randint(1, len(draft.options)))
        options = {group: rng.choice(draft.options[group]) for group in groups}
    name = draft.kind.name.lower()
    thing = (
        name
        if name.endswith("s") and not name.endswith("ss")
        else f"a {name}"
        if name[0] not in "aeiou"
        else f"an {name}"
    )
    text = rng.choice(REQUESTS).format(f"{thing} that is {_listed(wanted)}")
    return {
        "asin": asin,
        "instruction": text + options_clause(options, rng) + ".",
        "instruction_attributes": wanted,
        "instruction_options": list(options.values()),
    }


def options_clause(options: Mapping[str, str], rng: random.Random) -> str:
    said = []
    for group, value in options.items():
        other = OTHER_WORDS.get(value) if rng.random() < _OTHER_WORDS else None
        said.append(f"{other or value} {group}" if rng.random() < 0.5 else f"the {group} {other or value}")
    return rng.choice((", in ", ", with ", ", and i prefer ")) + _listed(said) if said else ""


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
