"""The official files, read and checked, and the goals made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stages.panelling.webshop.goals import NO_CAP, human_goals, synthetic_goals
from stages.panelling.webshop.nouns import ListedNouns, NounError, SpacyNouns
from stages.panelling.webshop.official import FILES, OfficialData, OfficialError, read_official, read_prices

NOUNS = ListedNouns({"lamp", "desk"})


def item(asin: str, /, **changes: Any) -> dict[str, Any]:
    plain = {
        "asin": asin,
        "name": "Oak Desk Lamp",
        "category": "garden",
        "query": " Desk Lamps ",
        "product_category": "Home \u203a Lamps",
        "full_description": "A lamp.",
        "small_description": ["bright", "oak"],
        "pricing": "$24.99",
        "customization_options": {"Color": [{"value": " Black/White "}, {"value": "RED"}], "Gone": None},
        "images": [],
    }
    return {**plain, **changes}


ASKED = {"instruction": "i need a lamp.", "instruction_attributes": ["oak"], "instruction_options": ["red"]}


def write(folder: Path, items: Sequence[Any], ins: Any = None, human: Any = None) -> Path:
    ins = (
        {"B1": {"attributes": ["oak"], "instruction": "Find a lamp", "instruction_attributes": ["oak"]}}
        if ins is None
        else ins
    )
    for name, content in zip(FILES["1000"], (items, ins, {"B1": [ASKED]} if human is None else human), strict=True):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def read(folder: Path, seed: int = 1) -> OfficialData:
    return read_official(folder, products="1000", seed=seed, nouns=NOUNS)


def test_a_product_is_cleaned_up_as_upstream_does(tmp_path: Path) -> None:
    [lamp] = read(write(tmp_path, [item("B1")])).products
    assert (lamp.query, lamp.price, lamp.price_tag) == ("desk lamps", 24.99, "$24.99")
    assert lamp.options == {"color": ("black | white", "red")}
    assert (lamp.attributes, lamp.bullets, lamp.nouns) == (("oak",), ("bright", "oak"), ("desk", "lamp"))


@pytest.mark.parametrize(
    ("tag", "prices"),
    [
        (None, (100.0,)),
        ("", (100.0,)),
        ("$5", (5.0,)),
        ("$1,299.50", (1299.5,)),
        ("$5.00$7.50", (5.0, 7.5)),
        ("$1$2$3", (1.0, 2.0)),
    ],
)
def test_prices(tag: str | None, prices: tuple[float, ...]) -> None:
    assert read_prices(tag) == prices


@pytest.mark.parametrize("tag", ["$", "$1.2.3", "$.", "$5.00$", "9.99", "$1$2$x"])
def test_a_price_that_cannot_be_read_is_named_with_its_product(tmp_path: Path, tag: str) -> None:
    with pytest.raises(
        OfficialError, match=r"items_shuffle_1000\.json: row 1, product B2: pricing .* expected"
    ) as error:
        read(write(tmp_path, [item("B1"), item("B2", pricing=tag)]))
    assert f"{tag!r} found" in str(error.value)


def test_a_range_gives_one_price_by_seed(tmp_path: Path) -> None:
    folder = write(tmp_path, [item("B1", pricing="$5.00$7.50")])
    first, again, other = (read(folder, seed).products[0] for seed in (1, 1, 2))
    assert first.price_tag == "$5.0 to $7.5"
    assert 5 <= first.price <= 7.5 and first == again and first.price != other.price


def test_what_upstream_leaves_out_is_left_out(tmp_path: Path) -> None:
    items = [
        item("B1"),
        item("B1", name="Twice"),
        item("nan"),
        item("B0123456789"),
        item("B2", pricing=None, customization_options=""),
    ]
    data = read(write(tmp_path, items, human={"B1": [ASKED], "B9": [ASKED]}))
    assert [(p.asin, p.title, p.price) for p in data.products] == [
        ("B1", "Oak Desk Lamp", 24.99),
        ("B2", "Oak Desk Lamp", 100.0),
    ]
    assert data.products[1].attributes == ("DUMMY_ATTR",)
    assert set(data.human) == {"B1"}
    assert set(data.files) == set(FILES["1000"])


def test_a_row_that_upstream_skips_is_counted_whatever_else_it_holds(tmp_path: Path) -> None:
    without = {name: value for name, value in item("B3").items() if name != "full_description"}
    items = [
        item("B1"),
        item("nan", name=float("nan"), customization_options=[]),
        {"asin": "B0123456789"},
        {"asin": "B1"},
        item("B2", name=None),
        without,
        item("B4", name=float("nan")),
        item("B5", customization_options=[]),
        item("B6", name=""),
    ]
    data = read(write(tmp_path, items, human={"B1": [ASKED], "B9": [{}]}))
    assert [(p.asin, p.title, len(p.options)) for p in data.products] == [
        ("B1", "Oak Desk Lamp", 1),
        ("B5", "Oak Desk Lamp", 0),
        ("B6", "", 1),
    ]
    assert data.left_out == {
        "an id that is nan or longer than 10": ["row 1, product nan", "row 2, product B0123456789"],
        "an id that an earlier row has": ["row 3, product B1"],
        "no name": ["row 4, product B2", "row 6, product B4"],
        "no full_description": ["row 5, product B3"],
        "an instruction without its product": ["product B9"],
    }


@pytest.mark.parametrize("size", ["1000", "all"])
def test_instructions_of_another_shop_are_refused(tmp_path: Path, size: Any) -> None:
    """As when the small shop's products meet the large one's instructions."""
    human = {f"B{number}": [ASKED] for number in range(1, 10)}
    write(tmp_path, [item("B1"), item("B2"), item("B3"), item("B4")], human=human)
    for small, large in zip(FILES["1000"], FILES["all"], strict=True):
        (tmp_path / large).write_bytes((tmp_path / small).read_bytes())
    with pytest.raises(OfficialError, match=r"items_human_ins\.json: 4 of its 9 instructions are of the 4 products"):
        read_official(tmp_path, products=size, seed=1, nouns=NOUNS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"asin": "nan"}, {"asin": "nan"', "after 1 rows: the file ends too early"),
        ('[{"asin": "nan"}, {"asin": "nan"}', "after 2 rows: the file ends too early"),
        ('[{"asin": "nan"}] more', "after 1 rows: the list ends, the file does not"),
        ("", "after 0 rows: the file ends too early"),
        ('{"B1": {}}', "no list in JSON"),
        ("[1]", "row 0: a product with its id"),
    ],
)
def test_half_a_download_and_another_file_under_the_name_are_said(tmp_path: Path, content: str, said: str) -> None:
    write(tmp_path, [])
    (tmp_path / FILES["1000"][0]).write_text(content)
    with pytest.raises(OfficialError) as caught:
        read(tmp_path)
    assert "items_shuffle_1000.json: " in str(caught.value) and said in str(caught.value)


def test_a_long_list_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, [item(f"B{number}", name="L\u00e4mp \u2728 \\" * 5) for number in range(40)])
    whole = read(tmp_path)
    monkeypatch.setattr("stages.panelling.webshop.stream._CHUNK", 3000)
    assert (list(read(tmp_path).products), read(tmp_path).files) == (list(whole.products), whole.files)
    assert len(whole.products) == 40


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": ["Lamp"]}, "row 0, product B1: name: Input should be a valid string"),
        ({"asin": None}, "row 0: a product with its id (asin) expected, None found"),
        (
            {"customization_options": {"color": [{"label": 1}]}},
            "row 0, product B1: customization_options.color.0.value",
        ),
        ({"customization_options": ["red"]}, "row 0, product B1: customization_options"),
        ({"pricing": 9.99}, "row 0, product B1: pricing"),
        ({"pricing": float("nan")}, "row 0, product B1: pricing"),
    ],
)
def test_a_malformed_product_is_named_by_file_row_and_key(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(OfficialError) as caught:
        read(write(tmp_path, [item("B1", **changes)]))
    assert "items_shuffle_1000.json" in str(caught.value) and said in str(caught.value)


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(OfficialError, match=r"items_shuffle_1000\.json: can't be read.*data_dir"):
        read(tmp_path)
    write(tmp_path, [item("B1")])
    (tmp_path / "items_human_ins.json").write_text("{")
    with pytest.raises(OfficialError, match=r"items_human_ins\.json: no JSON file"):
        read(tmp_path)
    write(tmp_path, [item("B1")], human=[1])
    with pytest.raises(OfficialError, match=r"items_human_ins\.json: rows by product id expected, \[1\] found"):
        read(tmp_path)


def test_a_human_goal_carries_a_cap_above_the_price(tmp_path: Path) -> None:
    data = read(write(tmp_path, [item("B1")]))
    for seed in range(20):
        [goal] = human_goals(data, seed)
        assert goal.cap in (40.0, 50.0, 60.0)  # the larger of two of 30, 40, 50, 60
        assert goal.instruction == f"i need a lamp, and price lower than {goal.cap:.2f} dollars"
    assert (goal.attributes, goal.options, goal.weight) == (("oak",), ("red",), 1.0)
    assert len({human_goals(data, seed)[0].cap for seed in range(20)}) == 3
    assert human_goals(data, 5) == human_goals(data, 5)


def test_the_dearest_products_have_no_cap(tmp_path: Path) -> None:
    [goal] = human_goals(read(write(tmp_path, [item("B1", pricing="$985")])), 1)
    assert (goal.cap, goal.instruction) == (NO_CAP, "i need a lamp")


def test_synthetic_goals_are_all_combinations_and_rare_attributes_weigh_more(tmp_path: Path) -> None:
    options = {"Color": [{"value": "red"}, {"value": "blue"}], "Size": [{"value": "s"}, {"value": "m"}]}
    ins = {
        "B1": {"attributes": ["oak"], "instruction": "Find a lamp", "instruction_attributes": ["oak"]},
        "B2": {"attributes": ["ash"], "instruction": "Find a mug", "instruction_attributes": ["ash", "oak"]},
        "B3": {"attributes": ["ash"]},
    }
    items = [item("B1", customization_options=options), item("B2", customization_options={}), item("B3")]
    goals = synthetic_goals(read(write(tmp_path, items, ins)), 1)
    lamps = [goal for goal in goals if goal.asin == "B1"]
    [mug] = [goal for goal in goals if goal.asin == "B2"]
    assert len(goals) == 5 and len({goal.options for goal in lamps}) == 4
    assert (("color", "red"), ("size", "s")) in {goal.options for goal in lamps}
    assert all(" with color: " in goal.instruction and ", and size: " in goal.instruction for goal in lamps)
    assert mug.options == () and " with " not in mug.instruction
    assert lamps[0].weight == pytest.approx(1 / 5)  # oak is wanted by five goals
    assert mug.weight == pytest.approx((1 + 1 / 5) / 2)


def test_data_without_goals_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OfficialError, match="no human goals"):
        human_goals(read(write(tmp_path, [item("B1")], human={})), 1)


def test_a_missing_tagger_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import spacy

    def missing(*_: object, **__: object) -> None:
        raise OSError("no model")

    monkeypatch.setattr(spacy, "load", missing)
    with pytest.raises(NounError, match="python -m spacy download en_core_web_sm"):
        SpacyNouns()


def test_listed_nouns_stand_in_the_titles_order_each_time_they_come() -> None:
    assert ListedNouns({"lamp", "灯"})(["Oak® Lamp 灯, Lamp for Desk"]) == [("lamp", "灯", "lamp")]


def test_nouns_are_those_that_upstreams_whole_model_finds() -> None:
    """Without its parser the model would take `Has` for a noun."""
    pytest.importorskip("en_core_web_sm")
    title = "I Need To Order A Game Boy Color. Make Sure That Its Green And Has Stereo Sound"
    assert SpacyNouns()([title, "Gift, Gift"]) == [
        ("game", "boy", "color", "green", "stereo", "sound"),
        ("gift", "gift"),
    ]


def test_a_tagger_gives_nouns_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import spacy
    from spacy.tokens import Doc
    from spacy.vocab import Vocab

    class Tagger:
        meta = {"version": "3.8.0"}  # noqa: RUF012

        def pipe(self, titles: Sequence[str]) -> list[Doc]:
            tags = {"Oak": "PROPN", "Lamp": "NOUN", "bright": "ADJ"}
            return [Doc(Vocab(), t.split(), pos=[tags[w] for w in t.split()]) for t in titles]

    left_out: list[str] = []

    def load(_: str, exclude: Sequence[str]) -> Tagger:
        left_out.extend(exclude)
        return Tagger()

    monkeypatch.setattr(spacy, "load", load)
    nouns = SpacyNouns()
    assert left_out == ["ner", "lemmatizer"]  # the parser decides some tags
    assert nouns.name == "spacy en_core_web_sm 3.8.0"
    assert nouns(["Oak Lamp", "bright Lamp Lamp"]) == [("oak", "lamp"), ("lamp", "lamp")]
