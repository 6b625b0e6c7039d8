"""Search as Lucene does it; the expected terms are those of its English analyzer."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from little_shop import LUMO, product

from stages.envs.webshop.analysis import analyze
from stages.envs.webshop.catalogue import Catalogue, CatalogueError, Lookups, load_catalogue, write_catalogue
from stages.envs.webshop.records import Product
from stages.envs.webshop.search import K1, B, Index, index_text, kept_lengths
from stages.envs.webshop.shelf import Shelf

FAMILY, THUMB, FLAG = "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea"


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
        ("crest\u00ae 3d white", ["crest", "\u00ae", "3d", "white"]),
        ("Levi\u2019s\u2122 501 \u00a9", ["levi", "\u2122", "501", "\u00a9"]),
        ("\u2605 \u2665 \u2714 \u2764\ufe0f best", ["\u2605", "\u2665", "\u2714", "\u2764\ufe0f", "best"]),
        ("\u263a\ufe0e \u263a\u200d\u263a", ["\u263a", "\u263a\u200d\u263a"]),
        (f"{FAMILY} {THUMB} {FLAG}{THUMB}", [FAMILY, THUMB, FLAG, THUMB]),
        ("1\ufe0f\u20e3 #\ufe0f\u20e3 # *", ["1\ufe0f\u20e3", "#\ufe0f\u20e3"]),
        ("\u65e5\u672c\u30ab\u30bf\u3072\u3089", ["\u65e5", "\u672c", "\u30ab\u30bf", "\u3072", "\u3089"]),
        ("\u0e44\u0e17\u0e22\u0e41\u0e25 \u0ea5\u0eb2\u0ea7", ["\u0e44\u0e17\u0e22\u0e41\u0e25", "\u0ea5\u0eb2\u0ea7"]),
        ("\ud55c\uad6d\uc5b4 \ud14d\uc2a4", ["\ud55c\uad6d\uc5b4", "\ud14d\uc2a4"]),
        ("\u0645\u0631\u062d\u0628\u0627 \u0628\u0627", ["\u0645\u0631\u062d\u0628\u0627", "\u0628\u0627"]),
        ("\u05d0\"\u05d1 \u05d2'", ['\u05d0"\u05d1', "\u05d2'"]),
        ("soft\u00adhyphen e\u0301te\u0301", ["soft\u00adhyphen", "e\u0301te\u0301"]),
        ("__ \u2460 a__b _x_", ["a__b", "_x_"]),
        ("1,000.5 a.b@c x:y 3:4", ["1,000.5", "a.b", "c", "x:y", "3", "4"]),
        ("\u0130STANBUL \u03a3\u0391\u03a3 Stra\u00dfe", ["istanbul", "\u03c3\u03b1\u03c3", "stra\u00dfe"]),
        ("\U0001d5ef\U0001d5f2s women\uff07s", ["\U0001d5ef\U0001d5f2", "women"]),  # two units a letter when stemmed
        ("\u00bc cup 2\u2103 \u21165", ["cup", "2", "5"]),
        ("x" * 256 + "s", ["x" * 255, "xs"]),
        ("_" * 5000, []),
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


DOCUMENTS = {
    "B09": "crest\u00ae 3d white strips",
    "B08": "crest 3d white strips",
    "B07": "crest\u2122 3d white strips white white",
    "B06": "\u2605 best lamp \u2605 led lamp",
    "B05": "best lamp led",
    "B04": "best lamp led",
    "B03": "lamp \u65e5\u672c\u8a9e \u30e9\u30f3\u30d7",
    "B02": "\u3072\u3089\u304c\u306a lamp",
    "B01": "soft\u00adhyphen lamp",
    "B00": f"\u2764\ufe0f heart lamp {FAMILY}",
    "A9": "",
    "A8": "__ \u2460",
    "A7": "1,000.5 mah lamp's lamps lamps",
    "A6": "\u0e44\u0e17\u0e22 lamp",
    "A5": f"\ud55c\uad6d\uc5b4 lamp {THUMB}",
    "A4": " ".join(["lamp"] * 3 + [f"word{number}" for number in range(60)]),
}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("crest\u00ae 3d white", "B09 B07 B08"),
        ("crest 3d white", "B07 B08 B09"),
        ("lamp", "A7 B06 A6 B01 A5 B04 B05 B00 B02 B03 A4"),
        ("lamp lamp lamp led best", "B04 B05 B06 A7 A6 B01 A5 B00 B02 B03 A4"),
        ("\u672c lamp", "B03 A7 B06 A6 B01 A5 B04 B05 B00 B02 A4"),
        ("\u3072", "B02"),
        ("\u2605", "B06"),
        ("\u2764\ufe0f", "B00"),
        (f"{FAMILY} lamp", "B00 A7 B06 A6 B01 A5 B04 B05 B02 B03 A4"),
        ("\U0001f44d", ""),
        ("softhyphen", ""),
        ("soft\u00adhyphen", "B01"),
        ("__ \u2460", ""),
        ("1,000.5", "A7"),
        ("\ud55c\uad6d\uc5b4 \u00ae", "A5 B09"),
        ("lamps' word7", "A4 A7 B06 A6 B01 A5 B04 B05 B00 B02 B03"),
    ],
)
def test_documents_stand_in_lucenes_order(query: str, found: str) -> None:
    """As Anserini 0.22.1 finds them."""
    assert search(DOCUMENTS, query) == found.split()


@pytest.mark.parametrize("sample", [60, 1000])
def test_leaving_documents_out_early_changes_nothing(sample: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against every document scored; words are as frequent as in texts, so that queries mix rare ones with common ones."""
    monkeypatch.setattr("stages.envs.webshop.search._MANY", 0)
    monkeypatch.setattr("stages.envs.webshop.search._SAMPLE", sample)
    draw = random.Random(5)
    words = [f"w{number}" for number in range(400)]
    shares = [1 / (number + 1) for number in range(400)]
    texts = {
        f"d{number:05}": " ".join(draw.choices(words, shares, k=draw.choice((3, 20, 60)))) for number in range(6000)
    }
    index = Index.of(texts.items())
    for _ in range(60):
        query = " ".join(draw.choices(words, shares, k=draw.randint(2, 12)))
        every = index.search(query, len(texts))  # with a place for all, none is left out
        assert index.search(query, 50) == every[:50], query


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


def test_upstreams_special_searches() -> None:
    shop = Catalogue(SHELF)
    assert len(shop.find(["<c>", "beauty", "x"])) == 60  # the first word alone names the category
    assert not shop.find(["<c>", "", "beauty"]) and not shop.find(["<c>"])
    drawn = list(shop.find(["<r>"]))
    assert len({p.asin for p in drawn}) == 50 and drawn == list(shop.find(["<r>"]))
    assert drawn != list(shop.find(["<r>", "lamp"]))
    assert len(Catalogue(SHELF[:3]).find(["<r>"])) == 3


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


def test_what_opens_a_catalogue_is_made_once_and_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = write_catalogue(tmp_path / "a.parquet", SHELF)
    made: list[Path] = []
    write = Shelf.write

    def counted(folder: Path, products: Iterable[Product]) -> Shelf:
        made.append(folder)
        return write(folder, products)

    monkeypatch.setattr(Shelf, "write", counted)
    shops: list[Catalogue] = []
    threads = [
        threading.Thread(target=lambda: shops.append(load_catalogue(tmp_path / "a.parquet", tmp_path / "opened")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(shops) == 4
    in_memory = Catalogue(SHELF)
    for words in (["lamp", "7"], ["<c>", "beauty"], ["<q>", "desk", "lamps"], ["<a>", "new"], ["<r>"], ["no", "such"]):
        assert [list(shop.find(words)) for shop in shops] == [list(in_memory.find(words))] * 4
    with pytest.raises(CatalogueError, match="expected sha256 0, found " + sha256):
        load_catalogue(tmp_path / "a.parquet", tmp_path / "opened", "0")


def test_what_other_code_made_of_a_catalogue_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_catalogue(tmp_path / "a.parquet", SHELF)
    with monkeypatch.context() as patch:
        patch.setattr("stages.envs.webshop.catalogue._code", lambda: "earlier")
        load_catalogue(tmp_path / "a.parquet", tmp_path / "opened")
    [earlier] = (path for path in (tmp_path / "opened").iterdir() if path.is_dir())
    (earlier / "products.jsonl").write_bytes(b"other lines")
    assert list(load_catalogue(tmp_path / "a.parquet", tmp_path / "opened").products.values()) == SHELF
    assert not earlier.exists()


def test_a_half_made_opening_is_not_taken_for_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_catalogue(tmp_path / "a.parquet", SHELF)

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Lookups, "keep", broken)
        load_catalogue(tmp_path / "a.parquet", tmp_path / "opened")
    assert not [path for path in (tmp_path / "opened").iterdir() if path.is_dir()]
    assert len(load_catalogue(tmp_path / "a.parquet", tmp_path / "opened").find(["lamp"])) == 50
