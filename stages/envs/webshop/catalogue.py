"""A shop's products on disk, and what the site does with them: look up and search."""

from __future__ import annotations

import hashlib
import random
import shutil
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Self

import polars as pl
from filelock import FileLock

from stages.core.files import atomic, replacing
from stages.core.process import Fault
from stages.envs.webshop.mapped import Groups
from stages.envs.webshop.records import Product
from stages.envs.webshop.search import Index, index_text
from stages.envs.webshop.shelf import Picked, Shelf

SCHEMA_VERSION = 2
RESULTS = 50
_CACHED_QUERIES, _CACHED_IDS = 4096, 4096
_BATCH = 20_000  # products made into a table at once
_ROW_GROUP = 1 << 18  # rows, as polars writes them
_KINDS = ("attributes", "category", "query")
_MAKERS = ("analysis.py", "catalogue.py", "mapped.py", "records.py", "search.py", "shelf.py", "word_breaks.json")
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


class Lookups:
    """What finds products by number: the search index, and lists of those that share an attribute, a category or a query."""

    def __init__(self, index: Index, kinds: Mapping[str, Groups]) -> None:
        self.index, self.kinds = index, kinds

    @classmethod
    def of(cls, products: Iterable[Product]) -> Self:
        kinds: dict[str, dict[str, array[int]]] = {kind: defaultdict(lambda: array("i")) for kind in _KINDS}

        def documents() -> Iterator[tuple[str, str]]:
            for number, product in enumerate(products):
                for attribute in set(product.attributes):
                    kinds["attributes"][attribute].append(number)
                kinds["category"][product.category].append(number)
                kinds["query"][product.query].append(number)
                yield product.asin, index_text(product)

        index = Index.of(documents())  # before the lists are put together, as this fills them
        return cls(index, {kind: Groups.of(found) for kind, found in kinds.items()})

    def keep(self, folder: Path) -> None:
        self.index.keep(folder)
        for kind, groups in self.kinds.items():
            groups.keep(folder / kind)

    @classmethod
    def mapped(cls, folder: Path) -> Self:
        return cls(Index.mapped(folder), {kind: Groups.mapped(folder / kind) for kind in _KINDS})


class _ById(Mapping[str, Product]):
    """Products by id, in the shop's order."""

    def __init__(self, products: Sequence[Product], ids: Groups) -> None:
        self._products, self._ids = products, ids
        self._number = lru_cache(maxsize=_CACHED_IDS)(self._find)

    def __getitem__(self, asin: str) -> Product:
        return self._products[self._number(asin)]

    def _find(self, asin: str) -> int:
        if not len(found := self._ids.find(asin)):
            raise KeyError(asin)
        return int(found[0])

    def __iter__(self) -> Iterator[str]:
        return (product.asin for product in self._products)

    def __len__(self) -> int:
        return len(self._ids)


class Catalogue:
    """A shop's products, by id in upstream's order, and what its site finds them by."""

    def __init__(self, products: Sequence[Product], lookups: Lookups | None = None) -> None:
        """Without `lookups`, they are made in memory."""
        self._shelf, self._lookups = products, lookups or Lookups.of(products)
        self.products: Mapping[str, Product] = _ById(products, self._lookups.index.ids)
        self._search = lru_cache(maxsize=_CACHED_QUERIES)(self._lookups.index.search)

    def find(self, words: Sequence[str]) -> Sequence[Product]:
        """What the site shows for a search: `<a> attribute` and `<q> query` list all that have it, `<c> category` all of the
        category that its first word names, `<r>` some at random; anything else is searched for (at most `RESULTS`).

        Upstream draws for `<r>` anew at each page; here the words are the draw's seed. A lone `<c>`, at which upstream fails,
        lists nothing.
        """
        return Picked(self._shelf, self._numbers(words))

    def _numbers(self, words: Sequence[str]) -> Sequence[int]:
        command, rest = (words[0] if words else ""), " ".join(words[1:]).strip()
        if command == "<r>":
            count = len(self._shelf)
            return random.Random(" ".join(words)).sample(range(count), min(RESULTS, count))
        if command == "<c>":
            return self._kind("category", words[1].strip()) if len(words) > 1 else []
        if command in ("<a>", "<q>"):
            return self._kind("attributes" if command == "<a>" else "query", rest)
        return self._search(" ".join(words), RESULTS)

    def _kind(self, kind: str, key: str) -> Sequence[int]:
        found: Sequence[int] = self._lookups.kinds[kind].find(key)
        return found


def write_catalogue(path: Path, products: Iterable[Product]) -> str:
    """Write products to a Parquet file, all or nothing; the same products give the same bytes. Returns the file's sha256."""
    batches, rest = [_frame([])], iter(products)
    while batch := list(islice(rest, _BATCH)):
        batches.append(_frame(batch))
    with atomic(path) as temporary:
        pl.concat(batches, rechunk=False).write_parquet(temporary, compression="zstd", statistics=False)
    return _sha256(path)


def load_catalogue(path: Path, cache: Path, sha256: str | None = None) -> Catalogue:
    """Open the catalogue in a file, which must have the hash `sha256` if one is given.

    What it takes to open one at once is made the first time and kept in `cache`, by the file's hash: the products as lines of
    JSON, and all lookups. Every process maps the same files. Raises `CatalogueError` for a file that is missing, another, or none.
    """
    try:
        found = _sha256(path)
    except OSError as error:
        raise CatalogueError(
            f"{path}: the catalogue can't be read ({error.strerror}). Build the panels again: dvc repro panels"
        ) from error
    if sha256 not in (None, found):
        raise CatalogueError(
            f"{path}: not the catalogue the panel was made with: expected sha256 {sha256}, found {found}. "
            "Restore the file (dvc checkout) or build the panels again (dvc repro panels)"
        )
    opened = cache / f"{found[:32]}-{_code()}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{found[:32]}.lock"):
        if not opened.is_dir():
            with replacing(opened) as fresh:
                Lookups.of(Shelf.write(fresh, _products(path))).keep(fresh)
            for other in cache.glob(f"{found[:32]}-*"):  # earlier code's; who has it open keeps it
                if other != opened:
                    shutil.rmtree(other, ignore_errors=True)
    return Catalogue(Shelf(opened), Lookups.mapped(opened))


@cache
def _code() -> str:
    """A digest of the code that decides what is kept and how, so that no other code's files are taken for its own."""
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in _MAKERS)).hexdigest()[:8]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _frame(products: Sequence[Product]) -> pl.DataFrame:
    rows = [
        {
            "schema_version": SCHEMA_VERSION,
            "asin": p.asin,
            "title": p.title,
            "category": p.category,
            "query": p.query,
            "path": p.path,
            "description": p.description,
            "bullets": p.bullets,
            "attributes": p.attributes,
            "groups": list(p.options),
            "values": [list(values) for values in p.options.values()],
            "price_tag": p.price_tag,
            "price": p.price,
            "nouns": p.nouns,
        }
        for p in products
    ]
    return pl.DataFrame(rows, schema=_COLUMNS)


def _products(path: Path) -> Iterator[Product]:
    """The products in a catalogue's file, a batch of rows in memory at a time."""
    try:
        scan = pl.scan_parquet(path)
        schema = scan.collect_schema()
        rows = scan.select(pl.len()).collect().item()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CatalogueError(f"{path}: can't be read ({error}). Build the panels again: dvc repro panels") from error
    if dict(schema) != _COLUMNS:
        raise _outdated(path)
    for start in range(0, rows, _ROW_GROUP):
        frame = scan.slice(start, _ROW_GROUP).collect()
        if set(frame["schema_version"]) != {SCHEMA_VERSION}:
            raise _outdated(path)
        yield from map(_product, frame.drop("schema_version").iter_rows(named=True))


def _outdated(path: Path) -> CatalogueError:
    return CatalogueError(
        f"{path}: no catalogue of schema_version {SCHEMA_VERSION}. Build the panels again: dvc repro panels"
    )


def _product(row: dict[str, Any]) -> Product:
    groups, values = row.pop("groups"), row.pop("values")
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return Product(**plain, options={g: tuple(v) for g, v in zip(groups, values, strict=True)})
