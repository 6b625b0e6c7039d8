"""A purchase's reward: expected values are fractions worked out by hand from upstream's rules."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from little_shop import path, product

from stages.envs.webshop.records import Goal
from stages.envs.webshop.reward import COLORS, alike, fold_color, score

WANTED = product(
    "B000000001",
    "Oak Desk Lamp",
    query="desk lamps",
    path=path("Home", "Lighting", "Desk Lamps"),
    attributes=("dimmable", "energy saving"),
    nouns=("desk", "lamp", "oak", "shade", "light"),
    price=20.0,
)
OTHER = replace(WANTED, asin="B000000002", query="mugs", path=path("Kitchen", "Mugs"), nouns=())
GOAL = Goal("B000000001", "a dimmable lamp", ("dimmable",), (), 30.0, 1.0)


def test_the_product_itself_scores_one() -> None:
    found = score(WANTED, WANTED, GOAL, {})
    assert (found.reward, found.type_factor, found.noun_overlap) == (1.0, 1.0, 1.0)
    assert (found.query_match, found.category_match, found.price_met) == (True, True, True)


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({"query": "desk lamps", "nouns": ("oak",)}, 1.0),  # equal queries; overlap 1/5
        ({"path": path("Home", "Lighting", "Floor Lamps"), "nouns": ("oak",)}, 1.0),  # two shared parts
        (
            {"path": path("Home", "Mugs"), "nouns": ("oak",)},
            0.5,
        ),  # one shared part; overlap 1/5 is not above 0.2
        ({"nouns": ("oak", "lamp", "cup")}, 1.0),  # overlap 2/5
        ({"nouns": ("cup",)}, 0.0),
        (
            {"query": "desk lamps", "nouns": ("cup",)},
            0.0,
        ),  # no noun shared: even an equal query does not help
    ],
)
def test_the_type_factor(changes: dict[str, object], factor: float) -> None:
    found = score(replace(OTHER, **changes), WANTED, GOAL, {})  # type: ignore[arg-type]
    assert found.type_factor == factor
    assert found.reward == factor * found.attributes_met / 2 + factor / 2


def test_few_shared_nouns_give_a_tenth_whatever_the_query() -> None:
    many = replace(WANTED, nouns=("lamp", *(f"n{i}" for i in range(19))))
    assert score(replace(many, nouns=("lamp",)), many, GOAL, {}).type_factor == 0.1  # 1/20
    assert score(replace(many, nouns=("lamp", "n0")), many, GOAL, {}).type_factor == 1.0  # 2/20 is not below


def test_a_noun_that_the_wanted_title_repeats_counts_each_time() -> None:
    """Values of the official engine, spaCy's nouns of both titles included."""
    wanted = product(
        "B000000003",
        "Barber Brush Men Shaving Brush Soft Hair Beard Brush Barber Shave Brush",
        query="shaving brushes",
        path=path("Beauty", "Shave", "Brushes"),
        nouns=(
            "barber",
            "brush",
            "men",
            "shaving",
            "brush",
            "soft",
            "hair",
            "beard",
            "brush",
            "barber",
            "shave",
            "brush",
        ),
    )
    bought = product(
        "B000000004",
        "Salon Apron for Men, Hair Catcher",
        query="beard aprons",
        path=path("Beauty", "Beard"),
        price=20.0,
        nouns=("salon", "apron", "men", "hair", "catcher"),
    )
    found = score(bought, wanted, replace(GOAL, attributes=("badger hair",), options=("black",)), {"color": "white"})
    assert (found.noun_overlap, found.type_factor, found.reward) == (2 / 12, 0.5, 1 / 6)
    assert score(wanted, wanted, GOAL, {}).noun_overlap == 8 / 12  # not even the title itself reaches 1


def test_a_title_without_nouns_counts_as_an_overlap_of_a_fifth() -> None:
    bare = replace(WANTED, nouns=())
    assert score(OTHER, bare, GOAL, {}).noun_overlap == 0.2
    assert score(OTHER, bare, GOAL, {}).type_factor == 0.5
    assert score(replace(OTHER, query="desk lamps"), bare, GOAL, {}).type_factor == 1.0


@pytest.mark.parametrize(
    ("wanted", "met"),
    [
        ("dimmable", True),
        ("dimmable!", True),  # punctuation does not count
        ("saving energy", True),  # nor does the order of words
        ("dim", False),  # ratio below 85, and in no text
        ("oak desk", True),  # in the title
        ("brass foot", True),  # in the bullets, joined by a blank
        ("for long evenings", True),  # in the description
        ("waterproof", False),
    ],
)
def test_an_attribute_is_met_by_likeness_or_word_for_word(wanted: str, met: bool) -> None:
    bought = replace(WANTED, bullets=("solid brass", "foot and shade"), description="For Long Evenings.")
    found = score(bought, WANTED, replace(GOAL, attributes=(wanted,)), {})
    assert (found.attributes_met, found.reward) == (int(met), (met + 1) / 2)


@pytest.mark.parametrize(
    ("chosen", "wanted", "met"),
    [
        ({"color": "light blue"}, ("blue",), 1),  # blue comes before light in the list of colours
        ({"color": "dark navy"}, ("navy blue",), 0),  # dark comes before navy, blue before navy
        ({"size": "x-large"}, ("xx-large",), 1),  # 'large x' against 'large xx': 2 x 7 of 15 letters, 93
        ({"size": "small"}, ("large",), 0),
        ({"size": "pack of 3"}, ("3 pack of",), 1),
        ({"color": "black", "size": "small"}, ("black", "small"), 2),
        ({"color": "black"}, ("black", "small"), 1),
        ({}, ("black",), 0),
        ({"color": "black"}, (("color", "black"),), 1),  # a pair holds the colour that its value equals
        ({"color": "jet black"}, (("color", "jet black"),), 1),  # else it is matched as printed, 'color jet black'
        ({"color": "white"}, (("color", "jet black"),), 0),
        ({"size": "small"}, (("size", "small"),), 1),  # every word of the choice is in the printed pair
    ],
)
def test_options(chosen: dict[str, str], wanted: tuple[str | tuple[str, str], ...], met: int) -> None:
    found = score(WANTED, WANTED, replace(GOAL, options=wanted), chosen)
    assert (found.options_met, found.options_wanted) == (met, len(wanted))
    assert Fraction(found.reward).limit_denominator(100) == Fraction(1 + met + 1, 2 + len(wanted))


@pytest.mark.parametrize(("price", "met"), [(29.99, True), (30.0, True), (30.01, False)])
def test_the_price_may_equal_the_cap(price: float, met: bool) -> None:
    found = score(replace(WANTED, price=price), WANTED, GOAL, {})
    assert (found.price_met, found.reward) == (met, (1 + met) / 2)


def test_colours_fold_to_the_first_of_the_list() -> None:
    assert len(COLORS) == len(set(COLORS)) == 102
    assert fold_color("light blue") == "blue"
    assert fold_color("plain") == "plain"
    assert fold_color(("color", "blue")) == "blue"
    assert fold_color(("color", "light blue")) == ("color", "light blue")


def test_strings_without_words_are_like_nothing() -> None:
    assert not alike("!!!", "!!!")
    assert not alike("", "blue")
    assert alike("Size: LARGE", "large size")
