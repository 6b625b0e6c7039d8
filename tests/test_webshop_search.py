"""Search as Lucene does it; the expected terms are those of its English analyzer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from little_shop import LUMO, product

from stages.envs.webshop.analysis import analyze
from stages.envs.webshop.catalogue import Catalogue, CatalogueError, load_catalogue, write_catalogue
from stages.envs.webshop.search import K1, B, Index, index_text, kept_lengths


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The women's running shoes", ["women", "run", "shoe"]),
        ("Women\u2019S sizes", ["women", "size"]),
        ("don't", ["don't"]),
        ("1.5 oz, 3,000 pieces", ["1.5", "oz", "3,000", "piec"]),
        ("USB-C / hdmi_cable #2", ["usb", "c", "hdmi_cabl", "2"]),
        ("5\u00b2 m", ["5", "m"]),
        ("possibly apologies", ["possibl", "apolog"]),  # Martin's departures: bli, logi
        ("the of and", []),
        ("", []),
    ],
)
def test_terms(text: str, terms: list[str]) -> None:
    assert analyze(text) == terms


def test_lengths_lose_digits_as_in_lucenes_byte() -> None:
    lengths = np.array([0, 23, 24, 39, 40, 41, 42, 57, 100])
    assert list(kept_lengths(lengths)) == [0, 23, 24, 39, 40, 40, 42, 56, 96]


def search(documents: dict[str, str], query: str, k: int = 50) -> list[str]:
    """The ids that an index of these documents finds."""
    ids, index = list(documents), Index.of(documents.items())
    return [ids[number] for number in index.search(query, k)]


def test_scores_are_bm25() -> None:
    documents = {"a": "lamp lamp desk", "b": "lamp", "c": "mug"}
    assert search(documents, "lamp") == ["b", "a"] if short_wins() else ["a", "b"]
    assert search(documents, "mug desk") == ["c", "a"]
    assert search(documents, "lamp", k=1) == search(documents, "lamp")[:1]


def short_wins() -> bool:
    """BM25 by hand for one `lamp` in a document of 1 term against two in one of 3; the average length is 5/3."""
    rarity = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    short, long = (rarity * f / (f + K1 * (1 - B + B * n / (5 / 3))) for f, n in ((1, 1), (2, 3)))
    return short > long


def test_equal_scores_stand_in_the_order_of_ids() -> None:
    assert search(dict.fromkeys("zma", "red lamp"), "lamp") == ["a", "m", "z"]


@pytest.mark.parametrize("query", ["", "the of and", "/ ? #", "zeppelin"])
def test_a_query_without_known_words_finds_nothing(query: str) -> None:
    assert search({"a": "lamp"}, query) == search({}, query) == []


def test_odd_characters_do_not_hide_words() -> None:
    assert search({"a": "lamp"}, "lamp/? #lamp [x]") == ["a"]


def test_title_description_first_bullet_and_options_are_searched() -> None:
    text = index_text(LUMO)
    assert (
        text
        == "lumo desk lamp a lamp for long evenings. dimmable in 3 steps color: black, white, and size: small, large"
    )


SHELF = [
    LUMO,
    *(product(f"B0LAMP{n:04}", f"Plain Lamp {n}", category="beauty", attributes=("new",)) for n in range(60)),
]


def test_at_most_fifty_are_found_and_lists_are_whole() -> None:
    shop = Catalogue(SHELF)
    assert len(shop.find(["lamp"])) == 50
    assert len(shop.find(["<c>", "beauty"])) == 60
    assert len(shop.find(["<q>", "desk", "lamps"])) == 61
    assert [p.asin for p in shop.find(["<a>", "energy", "saving"])] == [LUMO.asin]
    assert not shop.find([]) and not shop.find([""])


def test_a_catalogue_comes_back_as_it_was_written(tmp_path: Path) -> None:
    first = write_catalogue(tmp_path / "a.parquet", SHELF)
    assert write_catalogue(tmp_path / "b.parquet", SHELF) == first
    shop = load_catalogue(tmp_path / "a.parquet", tmp_path / "opened")
    assert list(shop.products.values()) == SHELF
    assert write_catalogue(tmp_path / "c.parquet", SHELF[1:]) != first


@pytest.mark.parametrize("content", [b"", b"PAR1 but no more"])
def test_what_is_no_catalogue_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.parquet"
    path.write_bytes(content)
    with pytest.raises(CatalogueError, match=r"c\.parquet.*dvc repro panels"):
        load_catalogue(path, tmp_path)


def test_a_table_of_another_kind_is_no_catalogue(tmp_path: Path) -> None:
    import polars as pl

    pl.DataFrame({"asin": ["a"]}).write_parquet(tmp_path / "c.parquet")
    with pytest.raises(CatalogueError, match="no catalogue of schema_version 2"):
        load_catalogue(tmp_path / "c.parquet", tmp_path)
