"""Walks through the shop in both dialects, and one whole transcript for each view, written by hand from upstream's rules."""

from __future__ import annotations

import random

import pytest
from little_shop import LUMO, SHELF, WANTED, LittleShop, product

from stages.envs.webshop.pages import LocalSite
from stages.envs.webshop.sessions import DIALECTS, MAX_SEARCH, Session, admissible

GOAL = WANTED.instruction


def session(dialect: str, view: str = "papers") -> Session:
    return DIALECTS[dialect](LocalSite(LittleShop(), WANTED), view)


def at(dialect: str, *actions: str, view: str = "papers") -> Session:
    walker = session(dialect, view)
    for action in actions:
        assert walker.step(action).valid, action
    return walker


# Whole transcripts


def play(walker: Session, transcript: list[tuple[str, str]]) -> None:
    """Hold a session against its actions and texts; the last action buys the lamp in black, for 3 of 4 points."""
    for action, text in transcript[:-1]:
        step = walker.step(action)
        assert (step.text, step.reward, step.done, step.valid, step.score) == (text, 0.0, False, True, None), action
    step = walker.step(transcript[-1][0])
    assert (step.text, step.reward, step.done, step.valid) == (transcript[-1][1], 0.75, True, True)
    assert step.score is not None
    assert (step.score.attributes_met, step.score.options_met, step.score.price_met) == (1, 1, True)


def test_transcript_of_the_text_view() -> None:
    head = f"Instruction: [SEP] {GOAL} [SEP] Back to Search [SEP] "
    item = (
        f"{head}< Prev [SEP] color [SEP] black [SEP] white [SEP] size [SEP] small [SEP] large [SEP] Lumo Desk Lamp [SEP] "
        "Price: $24.99 [SEP] Rating: N.A. [SEP] Description [SEP] Features [SEP] Reviews [SEP] Buy Now"
    )
    walker = session("text", "text")
    assert walker.text == f"WebShop [SEP] Instruction: [SEP] {GOAL} [SEP] Search"
    play(
        walker,
        [
            (
                "search[Lumo MUG]",
                f"{head}Page 1 (Total results: 2) [SEP] Next > [SEP] "
                "B0LUMO0001 [SEP] Lumo Desk Lamp [SEP] $24.99 [SEP] B0MUG00013 [SEP] Mug [SEP] $100.0",
            ),
            ("click[b0lumo0001]", item),
            ("click[Black]", item),
            ("click[features]", f"{head}< Prev [SEP] dimmable in 3 steps [SEP] steel & oak"),
            ("click[< prev]", item),
            (
                "click[buy now]",
                "Thank you for shopping with us! [SEP] Your code: [SEP] None [SEP] (Paste it in your MTurk interface.) "
                '[SEP] Purchased [SEP] asin [SEP] B0LUMO0001 [SEP] options [SEP] {"color": "black"} [SEP] attrs [SEP] None '
                "[SEP] category [SEP] None [SEP] query [SEP] None [SEP] product category [SEP] None [SEP] Target [SEP] asin "
                "[SEP] options [SEP] attrs [SEP] price upper [SEP] instuction text [SEP] category [SEP] product category "
                "[SEP] query [SEP] Goal [SEP] None [SEP] Reward [SEP] Your score (min 0.0, max 1.0) [SEP] 0.75 [SEP] "
                "Reward Details [SEP] None",
            ),
        ],
    )


def test_transcript_of_the_rich_view() -> None:
    head = f"Instruction:\n{GOAL}\n[button] Back to Search [button_]\n"
    item = (
        f"{head}[button] < Prev [button_]\ncolor\n  [button] black [button_]\n  [button] white [button_]\nsize\n"
        "  [button] small [button_]\n  [button] large [button_]\nLumo Desk Lamp\nPrice: $24.99\nRating: N.A.\n"
        "[button] Description [button_]\n[button] Features [button_]\n[button] Reviews [button_]\n[button] Buy Now [button_]\n"
    )

    def chosen(value: str) -> str:
        marked = item.replace(f"[button] {value} [button_]", f"[clicked button] {value} [clicked button_]")
        return f"You have clicked {value}.\n{marked}"

    results = (
        f"{head}Page 1 (Total results: 2)\n[button] Next > [button_]\n\n[button] B0LUMO0001 [button_]\nLumo Desk Lamp\n$24.99\n"
        "\n[button] B0MUG00013 [button_]\nMug\n$100.0\n"
    )
    seen = results.replace("[button] B0LUMO0001 [button_]", "[clicked button] B0LUMO0001 [clicked button_]")
    walker = session("text", "text_rich")
    start = f"WebShop\nInstruction: \n{GOAL}\n[button] Search [button_]\n"
    assert walker.text == start
    play(
        walker,
        [
            ("search[lumo mug]", results),
            ("click[B0LUMO0001]", item),
            ("click[white]", chosen("white")),
            ("click[< Prev]", seen),
            ("click[Back to Search]", start),
            ("search[lumo mug]", results),  # the start page forgets what was seen
            ("click[b0lumo0001]", item),
            ("click[black]", chosen("black")),
            ("click[description]", f"{head}[button] < Prev [button_]\nA lamp for long evenings.\n"),
            ("click[< Prev]", chosen("black")),
            (
                "click[Buy Now]",
                "Thank you for shopping with us!\nYour code: \nNone\n (Paste it in your MTurk interface.)\nPurchased\nasin\n"
                'B0LUMO0001\noptions\n{"color": "black"}\nattrs\nNone\ncategory\nNone\nquery\nNone\nproduct category\nNone\n'
                "Target\nasin\noptions\nattrs\nprice upper\ninstuction text\ncategory\nproduct category\nquery\nGoal \nNone\n"
                "Reward\nYour score (min 0.0, max 1.0)\n0.75\nReward Details \nNone\n",
            ),
        ],
    )


def test_transcript_of_the_papers_view_and_client() -> None:
    item = (
        "\n[Back to Search] \n[< Prev] \ncolor [black][white]\nsize [small][large]\nLumo Desk Lamp \nPrice: $24.99 "
        "\nRating: N.A. \n[Description] \n[Features] \n[Reviews] \n[Buy Now] "
    )
    lamps = (
        "\n[Back to Search] \nPage 1 (Total results: 12) \n[Next >] \n[B0LUMO0001] \nLumo Desk Lamp \n$24.99 "
        '\n[B0NOOR0002] \nNoor Desk Lamp \n$10.0 to $20.0 \n[B0ODD00003] \nOdd <b>Lamp</b> & "Shade" \n$5.0 '
    )
    walker = session("client", "papers")
    assert walker.text == f"\nWebShop \nInstruction:  \n{GOAL} \n[Search] "
    play(
        walker,
        [
            ("search[lamp]", lamps),
            (
                "click[Next >]",
                "\n[Back to Search] \nPage 2 (Total results: 12) \n[< Prev] \n[Next >] "
                "\n[B0LAMP0011] \nPlain Lamp 11 \n$100.0 \n[B0LAMP0012] \nPlain Lamp 12 \n$100.0 ",
            ),
            ("click[< Prev]", lamps),
            ("think[the first one will do]", "OK."),
            ("click[B0LUMO0001]", item),
            ("click[black]", "You have clicked black."),
            ("click[Features]", "\n[Back to Search] \n[< Prev] \n dimmable in 3 steps \n steel & oak "),
            ("click[< Prev]", item.replace("[black]", "[[black]]")),
            ("click[Buy Now]", "Your score (min 0.0, max 1.0): 0.75"),
        ],
    )


# What is refused, and what that looks like


@pytest.mark.parametrize(
    "action",
    [
        "",
        "search[]",
        "search",
        "click[]",
        "click[Search]",
        "click[B0NOTHING0]",
        "click[Next >]",
        "search[a[b]]",  # the verb is taken up to the last bracket that still leaves an argument: "search[a"
        "Search[lamp]",
        "think[a lamp]",
        "search[a\nlamp]",
    ],
)
def test_the_text_dialect_answers_a_refused_action_with_the_same_page(action: str) -> None:
    walker = session("text", "text")
    before = walker.text
    step = walker.step(action)
    assert (step.text, step.reward, step.done, step.valid, step.score) == (before, 0.0, False, False, None)


@pytest.mark.parametrize(
    ("actions", "action"),
    [
        ((), ""),
        ((), "reset"),
        ((), "buy"),
        ((), "click[Buy Now]"),
        ((), "click[Next >]"),
        (("search[lamp]",), "search[mug]"),
        (("search[lamp]",), "click[Buy Now]"),
        (("search[lamp]",), "click[next >]"),
        (("search[lamp]",), "click[b0lumo0001]"),
        (("search[lamp]",), "click[B0LAMP0011]"),  # stands on the second page
        (("search[lamp]", "click[B0LUMO0001]"), "click[Black]"),
        (("search[lamp]", "click[B0LUMO0001]", "click[Reviews]"), "click[Buy Now]"),
    ],
)
def test_the_client_calls_an_action_invalid(actions: tuple[str, ...], action: str) -> None:
    walker = at("client", *actions)
    page = walker.page
    step = walker.step(action)
    assert (step.text, step.reward, step.done, step.valid) == ("Invalid action!", 0.0, False, False)
    assert walker.page == page


def test_the_client_loads_a_start_or_sub_page_again_for_a_name_it_does_not_know() -> None:
    for walker in (session("client"), at("client", "search[lamp]", "click[B0LUMO0001]", "click[Reviews]")):
        before = walker.text
        step = walker.step("click[B0LUMO0001]")
        assert (step.text, step.valid) == (before, False)


def test_the_client_can_open_products_its_view_does_not_show_and_go_before_the_first_page() -> None:
    assert "Plain Lamp 4" in at("client", "search[lamp]", "click[B0LAMP0004]").text
    assert "Page 0 (Total results: 12)" in at("client", "search[lamp]", "click[< Prev]").text
    assert not at("text", "search[lamp]").step("click[< Prev]").valid


def test_only_the_text_dialect_searches_from_every_page() -> None:
    deep = ("search[lamp]", "click[B0LUMO0001]", "click[Features]")
    assert "Page 1 (Total results: 1)" in at("text", *deep, "search[mug]").text
    assert not at("client", *deep).step("search[mug]").valid


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nothing_happens_after_the_purchase(dialect: str) -> None:
    walker = at(dialect, "search[lamp]", "click[B0LUMO0001]", "click[Buy Now]")
    page = walker.page
    for action in ("search[mug]", "click[Back to Search]", "think[done]"):
        step = walker.step(action)
        assert (step.reward, step.done, step.valid, step.score) == (0.0, True, False, None)
    assert walker.page == page
    assert admissible(walker) == ()


# Odd searches


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "words", ["what / ? #", "the of and", "   ", "..", "<r>", "<c>", "x]", "% %41 +", "\ud800", "ö\x00"]
)
def test_a_search_of_any_characters_that_means_nothing_finds_nothing(dialect: str, words: str) -> None:
    assert "(Total results: 0)" in at(dialect, f"search[{words}]").text


def test_the_client_takes_a_search_with_an_opening_bracket() -> None:
    assert "(Total results: 1)" in at("client", "search[[mug] x]").text


def test_a_slash_in_a_clients_search_reads_as_a_blank() -> None:
    assert "(Total results: 2)" in at("client", "search[mug/cup]").text


def test_very_long_actions() -> None:
    words = "mug " * MAX_SEARCH
    assert "(Total results: 1)" in at("text", f"search[{words}]").text
    assert session("client").step(f"search[{words}]").text == "Invalid action!"
    assert "(Total results: 1)" in at("client", f"search[{words[:MAX_SEARCH]}]").text
    assert not session("text").step(f"click[{words}]").valid


# Options


@pytest.mark.parametrize("dialect", DIALECTS)
def test_options_last_until_the_shopper_goes_back_to_the_results(dialect: str) -> None:
    item = ("search[lamp]", "click[B0LUMO0001]")
    chosen = at(dialect, *item, "click[black]", "click[large]", "click[white]")
    assert chosen.page.place.options == {"color": "white", "size": "large"}
    again = at(dialect, *item, "click[black]", "click[< Prev]", "click[B0LUMO0001]")
    assert again.page.place.options == {}


def test_all_options_in_budget_give_the_whole_reward() -> None:
    walker = at("client", "search[lamp]", "click[B0LUMO0001]", "click[black]", "click[large]")
    step = walker.step("click[Buy Now]")
    assert (step.reward, step.text) == (1.0, "Your score (min 0.0, max 1.0): 1.0")


NAMED_AS_PAGES = product(
    "B0PAGES0015",
    "Odd Names",
    description="What it is.",
    attributes=("odd",),
    options={"kind": ("description", "attributes", "buy now", "next >", "back to search", "< prev")},
)


def at_odd_names(dialect: str) -> Session:
    walker = DIALECTS[dialect](LocalSite(LittleShop([LUMO, NAMED_AS_PAGES]), WANTED), "text")
    for action in ("search[odd]", f"click[{NAMED_AS_PAGES.asin}]"):
        assert walker.step(action).valid, action
    return walker


@pytest.mark.parametrize(
    ("name", "page", "end"),
    [
        ("description", "sub", "What it is."),
        (
            "attributes",
            "sub",
            "odd [SEP] garden [SEP] desk lamps [SEP] Home & Kitchen \u203a Lighting \u203a Desk Lamps",
        ),
        ("back to search", "start", "Search"),
        ("< prev", "results", "$100.0"),
        ("buy now", "done", "Reward Details [SEP] None"),
    ],
)
def test_the_text_environment_opens_the_page_that_an_option_is_named_as(name: str, page: str, end: str) -> None:
    walker = at_odd_names("text")
    assert walker.step(f"click[{name}]").text.endswith(end)
    assert (walker.page.place.page, walker.page.place.options) == (page, {})


def test_an_option_named_as_no_page_of_a_product_is_chosen() -> None:
    walker = at_odd_names("text")
    assert walker.step("click[next >]").valid
    assert walker.page.place.options == {"kind": "next >"}


def test_the_client_tells_an_option_from_a_page_by_its_case() -> None:
    walker = at_odd_names("client")
    assert walker.step("click[description]").text == "You have clicked description."
    assert walker.step("click[Description]").text.endswith("What it is.")


def test_the_client_can_open_the_sub_page_that_has_no_button() -> None:
    walker = at("client", "search[lamp]", "click[B0LUMO0001]")
    assert "click[Attributes]" not in admissible(walker)
    assert "dimmable" in walker.step("click[Attributes]").text
    assert not at("text", "search[lamp]", "click[b0lumo0001]").step("click[attributes]").valid


# What a page offers


def test_what_pages_offer() -> None:
    assert admissible(session("client")) == admissible(session("text")) == ("search[<words>]",)
    assert admissible(at("client", "search[lamp]")) == (
        "click[Back to Search]",
        "click[Next >]",
        *(f"click[{item.asin}]" for item in SHELF[:3]),
    )
    assert admissible(at("text", "search[lamp]", view="text")) == (
        "search[<words>]",
        "click[back to search]",
        "click[next >]",
        *(f"click[{item.asin.lower()}]" for item in SHELF[:10]),
    )
    options = [f"click[{value}]" for values in LUMO.options.values() for value in values]
    buttons = ["Back to Search", "< Prev", "Description", "Features", "Reviews", "Buy Now"]
    item = at("client", "search[lamp]", "click[B0LUMO0001]")
    assert sorted(admissible(item)) == sorted(options + [f"click[{button}]" for button in buttons])


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("view", ["text", "text_rich", "papers"])
def test_every_action_that_a_page_offers_is_taken(dialect: str, view: str) -> None:
    draw = random.Random(f"{dialect} {view}")
    walker = session(dialect, view)
    for _ in range(300):
        offered = admissible(walker)
        if not offered:
            walker = session(dialect, view)
            continue
        action = draw.choice(offered).replace("<words>", draw.choice(["lamp", "mug", "odd", "nothing"]))
        assert walker.step(action).valid, action
