"""What a shop holds and what a shopper is asked for, in the form every part of the engine shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Product:
    """One product as upstream shows and judges it, after its clean-up of the official files.

    `category` is one of the five departments (beauty, electronics, fashion, garden, grocery), `query` the search it was
    collected by, `path` the category path, its parts separated as upstream does (U+203A). `options` maps a group's name to its values.
    `price_tag` is what pages show, `price` the one price that counts, in dollars (for a range: drawn once from a seed).
    `nouns` are the title's NOUN and PROPN tokens in lower case and in order, repeats kept: the type reward counts them.
    """

    asin: str
    title: str
    category: str
    query: str
    path: str
    description: str
    bullets: tuple[str, ...]
    attributes: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]
    price_tag: str
    price: float
    nouns: tuple[str, ...]


@dataclass(frozen=True)
class Goal:
    """What a shopper is asked for. `asin` is the product the instruction was written for.

    `options` are wanted values (human goals) or (group, value) pairs (synthetic goals; upstream folds colours in them
    differently). `cap` is the highest price in dollars that counts as met; without one it is 1,000,000.
    """

    asin: str
    instruction: str
    attributes: tuple[str, ...]
    options: tuple[str | tuple[str, str], ...]
    cap: float
    weight: float


@dataclass(frozen=True)
class Score:
    """A purchase, judged: `reward` in [0, 1] and the parts it is made of."""

    reward: float
    type_factor: float
    query_match: bool
    category_match: bool
    noun_overlap: float
    attributes_met: int
    attributes_wanted: int
    options_met: int
    options_wanted: int
    price_met: bool
