"""WebShop's pages and how they read: the expected texts are worked out by hand from the rules of upstream's pages."""

from __future__ import annotations

import pytest
from little_shop import ANY_MUG, LUMO, NOOR, ODD, SHELF, WANTED, LittleShop

from stages.envs.webshop.pages import LocalSite, Node, Page, PageError, Place, follow, from_path, to_path
from stages.envs.webshop.views import VIEWS, render, shown

LAMPS = Place("results", ("lamp",))


@pytest.fixture
def site() -> LocalSite:
    return LocalSite(LittleShop(), WANTED)


def texts(page: Page, kind: str = "text") -> list[str]:
    return [node.text for node in page.nodes if node.kind == kind]


# Pages


def test_the_first_result_page_shows_ten_products_and_no_way_back(site: LocalSite) -> None:
    page = site.open(LAMPS)
    assert texts(page, "link") == [item.asin for item in SHELF[:10]]
    assert texts(page, "button") == ["Back to Search", "Next >"]
    assert texts(page)[2:5] == ["Page 1 (Total results: 12)", "Lumo Desk Lamp", "$24.99"]


@pytest.mark.parametrize(("number", "products"), [(2, 2), (3, 0), (6, 0), (0, 0), (-1, 2)])
def test_other_result_pages_slice_as_upstream_does(site: LocalSite, number: int, products: int) -> None:
    page = site.open(Place("results", ("lamp",), number))
    assert len(texts(page, "link")) == products
    assert texts(page, "button") == ["Back to Search", *(["< Prev"] if number > 1 else []), "Next >"]
    assert texts(page)[2] == f"Page {number} (Total results: 12)"


def test_an_item_page_lists_options_by_group_then_what_it_is_then_its_buttons(site: LocalSite) -> None:
    nodes = site.open(Place("item", ("lamp",), asin=LUMO.asin)).nodes[2:]
    assert [(node.kind, node.text, node.group) for node in nodes] == [
        ("button", "Back to Search", ""),
        ("button", "< Prev", ""),
        ("text", "color", ""),
        ("option", "black", "color"),
        ("option", "white", "color"),
        ("text", "size", ""),
        ("option", "small", "size"),
        ("option", "large", "size"),
        ("text", "Lumo Desk Lamp", ""),
        ("text", "Price: $24.99", ""),
        ("text", "Rating: N.A.", ""),
        ("button", "Description", ""),
        ("button", "Features", ""),
        ("button", "Reviews", ""),
        ("button", "Buy Now", ""),
    ]


def test_the_attributes_tab_is_shown_on_request(site: LocalSite) -> None:
    place = Place("item", ("lamp",), asin=LUMO.asin)
    tabs = LocalSite(LittleShop(), WANTED, attributes_tab=True).open(place)
    assert texts(tabs, "button")[2:] == ["Description", "Features", "Reviews", "Attributes", "Buy Now"]


@pytest.mark.parametrize(
    ("tab", "contents"),
    [
        ("Description", ["A lamp for long evenings."]),
        ("Features", [" dimmable in 3 steps", " steel & oak"]),
        ("Reviews", []),
        (
            "Attributes",
            [" dimmable", " energy saving", "garden", "desk lamps", LUMO.path],
        ),
    ],
)
def test_sub_pages(site: LocalSite, tab: str, contents: list[str]) -> None:
    page = site.open(Place("sub", ("lamp",), asin=LUMO.asin, tab=tab))
    assert texts(page)[2:] == contents
    assert texts(page, "button") == ["Back to Search", "< Prev"]


def test_the_done_page_holds_the_reward_and_its_parts(site: LocalSite) -> None:
    page = site.open(Place("done", asin=LUMO.asin, options={"color": "black"}))
    assert page.score is not None
    assert page.reward == page.score.reward == 0.75
    assert (page.score.options_met, page.score.options_wanted, page.score.price_met) == (1, 2, True)
    shown_texts = texts(page)
    assert shown_texts[shown_texts.index("Your score (min 0.0, max 1.0)") + 1] == "0.75"
    assert shown_texts[shown_texts.index("options") + 1] == '{"color": "black"}'


def test_the_done_page_writes_options_as_upstreams_template_does(site: LocalSite) -> None:
    page = site.open(Place("done", asin=ODD.asin, options={"fit type": "women's", "b": "<a> & \u00e9"}))
    written = r'{"b": "\u003ca\u003e \u0026 \u00e9", "fit type": "women\u0027s"}'
    assert written in [node.text for node in page.nodes]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (Place("item", ("lamp",), asin="B0NOTHING0"), "no product 'B0NOTHING0' in this catalogue of 14"),
        (Place("done", asin=""), "no product ''"),
        (Place("sub", ("lamp",), asin=LUMO.asin, tab="Recipes"), "no sub-page 'Recipes', only Description, Features"),
    ],
)
def test_a_page_that_does_not_exist_is_named(site: LocalSite, place: Place, message: str) -> None:
    with pytest.raises(PageError, match=message):
        site.open(place)


def test_a_goal_whose_product_is_missing_is_refused() -> None:
    with pytest.raises(PageError, match=f"no product '{LUMO.asin}' in this catalogue of 1"):
        LocalSite(LittleShop([NOOR]), WANTED)


# Ways


@pytest.mark.parametrize(
    ("place", "node", "goal"),
    [
        (LAMPS, Node("button", "Next >"), Place("results", ("lamp",), 2)),
        (Place("results", ("lamp",), 2), Node("button", "< Prev"), LAMPS),
        (Place("results", ("lamp",), 2), Node("link", "B1"), Place("item", ("lamp",), 2, "B1")),
        (
            Place("item", ("lamp",), 2, "B1", options={"color": "red", "size": "s"}),
            Node("option", "blue", "color"),
            Place("item", ("lamp",), 2, "B1", options={"color": "blue", "size": "s"}),
        ),
        (
            Place("item", ("lamp",), 2, "B1", options={"a": "b"}),
            Node("button", "< Prev"),
            Place("results", ("lamp",), 2),
        ),
        (
            Place("item", ("lamp",), 2, "B1", options={"a": "b"}),
            Node("button", "Features"),
            Place("sub", ("lamp",), 2, "B1", "Features", {"a": "b"}),
        ),
        (
            Place("sub", ("lamp",), 2, "B1", "Features", {"a": "b"}),
            Node("button", "< Prev"),
            Place("item", ("lamp",), 2, "B1", options={"a": "b"}),
        ),
        (
            Place("item", ("lamp",), 2, "B1", options={"a": "b"}),
            Node("button", "Buy Now"),
            Place("done", ("lamp",), 2, "B1", options={"a": "b"}),
        ),
        (Place("item", ("lamp",), 2, "B1", options={"a": "b"}), Node("button", "Back to Search"), Place()),
    ],
)
def test_where_a_click_leads(place: Place, node: Node, goal: Place) -> None:
    assert follow(place, node) == goal


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (Place(), "/fixed_3"),
        (LAMPS, "/search_results/fixed_3/lamp/1"),
        (Place("results", ("what / is? #1",), 2), "/search_results/fixed_3/what%20%2F%20is%3F%20%231/2"),
        (Place("results", ("",)), "/search_results/fixed_3/%5B%27%27%5D/1"),
        (Place("results", ("[a] b",)), "/search_results/fixed_3/%5B%27%5Ba%5D%20b%27%5D/1"),
        (Place("results", ("two", "words")), "/search_results/fixed_3/%5B%27two%27%2C%20%27words%27%5D/1"),
        (Place("item", ("100%",), 1, "B1"), "/item_page/fixed_3/B1/100%25/1/%7B%7D"),
        (
            Place("sub", ("é",), 1, "B1", "Features", {"a/b": "c's"}),
            "/item_sub_page/fixed_3/B1/%C3%A9/1/Features/%7B%27a%2Fb%27%3A%20%22c%27s%22%7D",
        ),
        (Place("done", asin="B1", options={"a": "b"}), "/done/fixed_3/B1/%7B%27a%27%3A%20%27b%27%7D"),
    ],
)
def test_a_place_and_its_path_name_each_other(place: Place, path: str) -> None:
    assert to_path("fixed_3", place) == path
    assert from_path(path) == ("fixed_3", place)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/", "no page has the path '/'"),
        ("/search_results/s/a/b/1", "no page has the path.*quoted"),
        ("/search_results/s/lamp/two", "whole number, found 'two'"),
        ("/done/s/B1/red", "dictionary of strings.*found 'red'"),
        ("/done/s/B1/{'a': 1}", "dictionary of strings"),
        ("/done/s/B1/__import__('os')", "dictionary of strings"),
        ("/done/s/B1/" + "[" * 5000, "dictionary of strings"),
    ],
)
def test_a_path_that_names_no_page_is_refused(path: str, message: str) -> None:
    with pytest.raises(PageError, match=message):
        from_path(path)


# Views


def test_the_papers_form_shows_three_products_of_ten(site: LocalSite) -> None:
    page = site.open(LAMPS)
    assert render(page, "papers") == (
        "\n[Back to Search] \nPage 1 (Total results: 12) \n[Next >] "
        "\n[B0LUMO0001] \nLumo Desk Lamp \n$24.99 "
        "\n[B0NOOR0002] \nNoor Desk Lamp \n$10.0 to $20.0 "
        '\n[B0ODD00003] \nOdd <b>Lamp</b> & "Shade" \n$5.0 '
    )
    assert [node.text for node in shown(page, "papers") if node.kind == "link"] == [p.asin for p in SHELF[:3]]
    assert [node.text for node in shown(page, "text") if node.kind == "link"] == [p.asin for p in SHELF[:10]]


def test_only_the_start_page_shows_the_instruction_in_the_papers_form() -> None:
    site = LocalSite(LittleShop(), ANY_MUG)
    assert render(site.open(Place()), "papers") == f"\nWebShop \nInstruction:  \n{ANY_MUG.instruction} \n[Search] "
    assert ANY_MUG.instruction not in render(site.open(LAMPS), "papers")


def test_text_rich_marks_what_was_clicked_and_says_so_last_first(site: LocalSite) -> None:
    page = site.open(Place("item", ("lamp",), asin=LUMO.asin, options={"color": "white", "size": "small"}))
    lines = render(page, "text_rich", {LUMO.asin}).split("\n")
    assert lines[:2] == ["You have clicked small.", "You have clicked white."]
    assert lines[6:12] == [
        "color",
        "  [button] black [button_]",
        "  [clicked button] white [clicked button_]",
        "size",
        "  [clicked button] small [clicked button_]",
        "  [button] large [button_]",
    ]
    results = render(site.open(LAMPS), "text_rich", {LUMO.asin})
    assert "\n\n[clicked button] B0LUMO0001 [clicked button_]\nLumo Desk Lamp\n" in results
    assert "\n\n[button] B0NOOR0002 [button_]\n" in results


@pytest.mark.parametrize(
    ("value", "papers", "rich"),
    [
        ("a | b", True, True),
        ("women's", False, True),  # its address reads {'fit type': "women's"}
        ('24" wide', True, False),  # its address reads {"fit type": "24\" wide"}
        ("été", True, False),  # likewise \u00e9t\u00e9
    ],
)
def test_a_chosen_option_is_marked_where_the_address_has_it_in_quotation_marks(
    site: LocalSite, value: str, papers: bool, rich: bool
) -> None:
    page = site.open(Place("item", ("lamp",), asin=ODD.asin, options={"fit type": value}))
    assert (f"[[{value}]]" in render(page, "papers")) is papers
    assert (f"[clicked button] {value} [clicked button_]" in render(page, "text_rich")) is rich


def test_blank_and_empty_strings_read_as_an_html_parser_leaves_them(site: LocalSite) -> None:
    blank = site.open(Place("sub", ("lamp",), asin=NOOR.asin, tab="Description"))
    assert render(blank, "text").endswith("< Prev [SEP] ")
    assert render(blank, "text_rich").endswith("[button] < Prev [button_]\n \n")
    assert render(blank, "papers").endswith("[< Prev] ")
    features = site.open(Place("sub", ("lamp",), asin=ODD.asin, tab="Features"))
    assert render(features, "text").endswith("< Prev [SEP]  [SEP] été")  # an empty bullet is a blank in its element
    nothing = Page(Place(), (Node("text", ""), Node("text", "\n "), Node("text", "x")))
    assert {render(nothing, view).strip() for view in VIEWS} == {"x"}


def test_an_unknown_view_is_refused(site: LocalSite) -> None:
    with pytest.raises(KeyError, match="html"):
        render(site.open(Place()), "html")
