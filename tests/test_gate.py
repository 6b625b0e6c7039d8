"""The gate of hints: each reason to turn one away, on a hint that calls for it and on one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from household import Household, play

from stages.core.records import REJECTIONS, Episode, Hint
from stages.envs.base import Task
from stages.hinting import gate, general, webshop
from stages.hinting.alfworld import RULES
from stages.hinting.base import hint_of
from stages.language import household, shopping
from stages.language.forms import fitting

HOME = Household(
    {"table 1": ["mug 1"], "box 1": ["egg 1"], "shelf 1": []}, shut=frozenset({"box 1"}), sentence="put a egg in shelf"
)
LOST = play(HOME, ["go to box 1", "open box 1", "fly"])
DEAR = replace(
    LOST,
    episode_id="shop",
    env="webshop",
    goal="i want to buy a brush set that is long lasting, and price lower than 60.00 dollars",
    opening="WebShop \nInstruction: \ni want to buy a brush set that is long lasting, and price lower than 60.00 dollars\n[Search]",
    turns=[
        replace(
            LOST.turns[0],
            action="search[brush set]",
            observation="[B0CUANQ57I] \nTavgal Nut Free Herbal Tea, Model F51 \n$24.62",
            admissible=["click[Buy Now]", "click[B0CUANQ57I]"],
        )
    ],
)


def passed(*texts: str, of: Episode = LOST, most: int = 4, foreign: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """The texts that a gate takes, and the reasons for which it does not take the others."""
    rules = RULES if of.env == "alfworld" else webshop.RULES
    made = gate.Gate(120, most, gate.deeds([of], rules.deeds), frozenset(foreign))
    taken, rejected = made.passes([hint_of(of, "llm", text, "seen") for text in texts], {of.episode_id: of})
    assert all(r.reason in REJECTIONS and r.detail and r.episode_id == of.episode_id for r in rejected)
    return [hint.text for hint in taken], [r.reason for r in rejected]


@pytest.mark.parametrize(
    ("reason", "bad", "good", "of"),
    [
        ("empty", " - ", "Go on.", LOST),
        ("long", f"Go {'on ' * 40}", f"Go {'on ' * 30}", LOST),
        ("script", "Go to {place} и look.", "Go to {place} à la carte.", LOST),
        ("script", "打开 {receptacle} and look", "Open {receptacle}.", LOST),
        ("particular", "Take the egg 1 first.", "Take {object} first.", LOST),
        ("particular", "Go to Box 1.", "Go to {box}.", LOST),
        ("particular", "Look twice, then go to box 1.", "Look 2 times.", LOST),
        ("particular", "Don't click[B0CUANQ57I].", "click[Buy Now] last.", DEAR),
        ("particular", "Search for less than 60.00 dollars.", "Search with the price.", DEAR),
        ("particular", "Search below 60 dollars.", "Search below 600 dollars.", DEAR),
        ("particular", "Buy it for 24.620 dollars.", "Buy it for 24 dollars.", DEAR),
        ("particular", "Buy it for $1,299.99.", "Buy 1 of 299 for 1299.", replace(DEAR, goal="below 1299.99 dollars")),
        ("copied", "Search a brush set that is long lasting.", "Search the set by name.", DEAR),
        ("copied", "Open the Nut Free Herbal Tea.", "Open the tea.", DEAR),
        ("idle", "Be more careful.", "Look more carefully.", LOST),
        ("idle", "Think first.", "End the reply with one action.", LOST),
        ("idle", "Be quick.", "Buying comes last.", DEAR),
    ],
)
def test_a_hint_is_turned_away(reason: str, bad: str, good: str, of: Episode) -> None:
    assert passed(bad, of=of) == ([], [reason])
    assert passed(good, of=of) == ([" ".join(good.split())], [])


def test_a_failure_says_a_thing_once_and_no_more_than_it_may() -> None:
    assert passed("Go on.", "Go on.", "Look.", "Take it.", most=2) == (["Go on.", "Look."], ["repeated", "surplus"])


def test_what_is_turned_away_takes_no_other_hints_place() -> None:
    assert passed("Dance.", "Go on.", "Look.", most=2) == (["Go on.", "Look."], ["idle"])


def test_a_word_of_the_environments_own_script_is_no_other_script() -> None:
    theirs = replace(LOST, opening="箱子是关着的")
    assert passed("Go to {箱子}.", of=theirs) == (["Go to {箱子}."], [])
    assert passed("Go to {箱子}.") == ([], ["script"])


@pytest.mark.parametrize("spelled", ["{object}", "{ Object }", "{{object}}", "<object>", "{object_1}", "{OBJECT 2}"])
def test_placeholders_have_one_spelling(spelled: str) -> None:
    hint = gate.tidy(hint_of(LOST, "llm", f"Take  {spelled} first.", "seen"))
    assert hint == hint_of(LOST, "llm", "Take {object} first.", "seen")


def test_brackets_of_a_shop_are_no_placeholders() -> None:
    hint = hint_of(DEAR, "llm", "Before click[Buy Now], click[< Prev] or click[Next >].", "seen")
    assert gate.tidy(hint) == hint


# What only measured tasks have


def test_a_name_that_only_measured_tasks_have_is_turned_away() -> None:
    foreign = gate.foreign(["Lute", "Egg", "SideTable", "B0TEST0001", "Kelwen Travel Size, Model E84"], [LOST])
    assert foreign == {"lute", "sidetable", "b0test0001", "kelwen travel size"}
    assert passed("Take the lute.", foreign=[*foreign]) == ([], ["measured"])
    assert passed("Open {sidetable}.", foreign=[*foreign]) == ([], ["measured"])
    assert passed("Take the Kelwen travel size.", foreign=[*foreign]) == ([], ["measured"])
    assert passed("Take the egg.", "Take flutes.", foreign=[*foreign])[1] == []


@pytest.mark.parametrize(
    ("name", "kept", "text"),
    [
        ("Lumzel™ Easy to Find Shirt", "lumzel easy to", "Click Lumzel™ easy to find it."),
        ("Women's V-Neck Top", "women s v", "Open the WOMEN'S V-neck top."),
        ("T-Bird", "t bird", "Take the t-bird."),
        ("Nervo™", "nervo", "Take {nervo}."),
    ],
)
def test_a_measured_name_is_found_whatever_its_punctuation(name: str, kept: str, text: str) -> None:
    foreign = gate.foreign([name, "™", ""], [LOST])
    assert foreign == {kept}
    assert passed(text, foreign=[*foreign]) == ([], ["measured"])
    assert passed("Open it, then take {object}.", foreign=[*foreign])[1] == []


def test_a_shops_names_are_its_products(tmp_path: Path) -> None:
    pl.DataFrame({"asin": ["A1", "B2"], "title": ["One Soap", "Two Soap"]}).write_parquet(
        tmp_path / "catalogue.parquet"
    )
    task = Task("t", "webshop", "test", "beauty", "buy", {"asin": "B2", "catalogue": "catalogue.parquet"})
    assert list(webshop.names([task], tmp_path)) == ["B2", "Two Soap"]


# Against the bank


def said(*texts: str, category: str = "put") -> list[Hint]:
    return [
        replace(hint_of(replace(LOST, episode_id=f"e{n}"), "llm", text, "seen"), category=category)
        for n, text in enumerate(texts)
    ]


@pytest.mark.parametrize(
    "opposite",
    [
        "Never open {receptacle}.",
        "Don't open the {receptacle}.",
        "Look around, but do not open {receptacle}.",
        "Avoid open {receptacle}",
    ],
)
def test_the_rarer_of_two_opposites_is_turned_away(opposite: str) -> None:
    often = "Always open {receptacle}, then look."
    hints = said(often, opposite, often)
    assert gate.contradictions(hints) == {(("alfworld", "react", "put"), opposite): often}
    assert gate.contradictions([*hints, *said(opposite, opposite, opposite)]) == {
        (("alfworld", "react", "put"), often): opposite
    }
    made = gate.Gate(120, 4, frozenset({"open"}))
    taken, rejected = made.passes(hints, {f"e{n}": LOST for n in range(3)})
    assert [h.text for h in taken] == [often, often]
    assert [(r.text, r.reason, r.detail) for r in rejected] == [(opposite, "contradiction", often)]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Open {receptacle}.", "Never open {drawer}."),
        ("Open {receptacle}.", "If it is closed, open {receptacle}."),
        ("Never repeat an action.", "Repeat."),
    ],
)
def test_other_advice_is_no_contradiction(first: str, second: str) -> None:
    assert gate.contradictions(said(first, second)) == {}


def test_advice_in_another_category_contradicts_nothing() -> None:
    assert gate.contradictions(said("Open it first.") + said("Never open it first.", category="heat")) == {}


# The project's own sentences


def test_every_sentence_of_the_rules_passes() -> None:
    verbs = {"clean", "heat", "cool", "use", "go", "take", "move", "open", "examine", "look", "inventory"}
    tools = [text for form in household.TOOL_FORMS for text in fitting([form], 120, verb="heat", tool="microwave")]
    uses = [text for form in household.USE_FORMS for text in fitting([form], 120, verb="use", tool="desklamp")]
    step = household.STEP_FORM.format(word="hot")
    made = gate.Gate(120, 99, frozenset(verbs) | RULES.deeds)
    hints = [hint_of(LOST, "rules", text, "seen") for text in (*household.GENERIC, *tools, *uses, step)]
    assert made.passes(hints, {LOST.episode_id: LOST}) == (hints, [])

    options = [text for form in shopping.OPTION_FORMS for text in fitting([form], 120, group="flavor name")]
    shop = gate.Gate(120, 99, gate.deeds([DEAR], webshop.RULES.deeds))
    hints = [hint_of(DEAR, "rules", text, "seen") for text in (*shopping.SHOP_GENERIC, *options)]
    assert shop.passes(hints, {DEAR.episode_id: DEAR}) == (hints, [])

    plain = gate.Gate(120, 99, general.RULES.deeds)
    texts = (general.REFUSED, general.REPEATED, general.FORMAT, general.HURRY)
    hints = [hint_of(LOST, "rules", text, "seen") for text in texts]
    assert plain.passes(hints, {LOST.episode_id: LOST}) == (hints, [])
