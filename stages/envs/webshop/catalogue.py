"""A shop's products on disk, and what the site does with them: look up and search."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from stages.core.files import atomic
from stages.core.process import Fault
from stages.envs.webshop.records import Product
from stages.envs.webshop.search import Index, index_text

SCHEMA_VERSION = 2
RESULTS = 50
_CACHED_QUERIES = 4096
_COLUMNS: dict[str, Any] = {
    "schema_version": pl.Int64,
    "asin": pl.String,
    "title": pl.String,
    "category": pl.String,
    "query": pl.String,
    "path": pl.String,
    "description": pl.String,
    "bullets": pl.List(pl.String),
    "attributes": pl.List(pl.String),
    "groups": pl.List(pl.String),
    "values": pl.List(pl.List(pl.String)),
    "price_tag": pl.String,
    "price": pl.Float64,
    "nouns": pl.List(pl.String),
}


class CatalogueError(Fault, ValueError):
    """A file is no catalogue: says which, what was expected and what was found."""


class Catalogue:
    """Products by id, in upstream's order, and their search index."""

    def __init__(self, products: Sequence[Product]) -> None:
        self.products: Mapping[str, Product] = {product.asin: product for product in products}
        self.order = tuple(self.products)
        self._index = Index(self.order, [index_text(product) for product in products])
        self._search = lru_cache(maxsize=_CACHED_QUERIES)(self._index.search)

    def find(self, words: Sequence[str]) -> list[Product]:
        """What the site shows for a search: `<a> attribute` and `<q> query` list all that have it, `<c> category` all of the
        category that its first word names, `<r>` some at random; anything else is searched for (at most `RESULTS`).

        Upstream draws for `<r>` anew at each page; here the words are the draw's seed. A lone `<c>`, at which upstream fails,
        lists nothing.
        """
        command, rest = (words[0] if words else ""), " ".join(words[1:]).strip()
        products = self.products.values()
        if command == "<r>":
            return random.Random(" ".join(words)).sample(tuple(products), min(RESULTS, len(products)))
        if command == "<a>":
            return [product for product in products if rest in product.attributes]
        if command == "<c>":
            return [product for product in products if [product.category] == [word.strip() for word in words[1:2]]]
        if command == "<q>":
            return [product for product in products if product.query == rest]
        return [self.products[asin] for asin in self._search(" ".join(words), RESULTS)]


def write_catalogue(path: Path, products: Sequence[Product]) -> str:
    """Write products to a Parquet file, all or nothing; the same products give the same bytes. Returns the file's sha256."""
    rows = [
        {
            "schema_version": SCHEMA_VERSION,
            "asin": p.asin,
            "title": p.title,
            "category": p.category,
            "query": p.query,
            "path": p.path,
            "description": p.description,
            "bullets": list(p.bullets),
            "attributes": list(p.attributes),
            "groups": list(p.options),
            "values": [list(values) for values in p.options.values()],
            "price_tag": p.price_tag,
            "price": p.price,
            "nouns": list(p.nouns),
        }
        for p in products
    ]
    buffer = io.BytesIO()
    pl.DataFrame(rows, schema=_COLUMNS).write_parquet(buffer, compression="zstd", statistics=False)
    with atomic(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def load_catalogue(path: Path) -> Catalogue:
    """Read a catalogue and build its index. Raises `CatalogueError` for a file that is none."""
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CatalogueError(f"{path}: can't be read ({error}). Build the panels again: dvc repro panels") from error
    if dict(frame.schema) != _COLUMNS or set(frame["schema_version"]) - {SCHEMA_VERSION}:
        raise CatalogueError(
            f"{path}: no catalogue of schema_version {SCHEMA_VERSION}. Build the panels again: dvc repro panels"
        )
    return Catalogue(
        [
            Product(
                asin=row["asin"],
                title=row["title"],
                category=row["category"],
                query=row["query"],
                path=row["path"],
                description=row["description"],
                bullets=tuple(row["bullets"]),
                attributes=tuple(row["attributes"]),
                options={g: tuple(v) for g, v in zip(row["groups"], row["values"], strict=True)},
                price_tag=row["price_tag"],
                price=row["price"],
                nouns=tuple(row["nouns"]),
            )
            for row in frame.iter_rows(named=True)
        ]
    )
