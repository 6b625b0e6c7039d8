"""Reader of WebShop's official files, which the generated catalogue is written as, too: one way in for both.

`items_shuffle*.json` holds the products, `items_ins_v2*.json` their attributes and synthetic instructions, `items_human_ins.json` the
instructions that people wrote. The clean-up is upstream's (`load_products`): `$100` where no price is given, a range's price drawn (here
from an explicit seed), values of options stripped, in lower case, with ` | ` for `/`. A row whose id is `nan`, too long or had by an
earlier row is left out, whatever else it holds, and so is one that lacks a text, which upstream could not index; an instruction of a
product that is not there counts for nothing. All this is counted. What else upstream fails on is a fault.

Products are read one at a time, and come to lie in a file.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, field_validator

from stages.core.process import Fault
from stages.envs.webshop.records import Product
from stages.envs.webshop.shelf import Shelf
from stages.panelling.webshop.nouns import Nouns
from stages.panelling.webshop.stream import elements

FILES = {
    "1000": ("items_shuffle_1000.json", "items_ins_v2_1000.json", "items_human_ins.json"),
    "all": ("items_shuffle.json", "items_ins_v2.json", "items_human_ins.json"),
}
NO_PRICE = 100.0
NO_ATTRIBUTES = ("DUMMY_ATTR",)
LEAST_MET = {"1000": 0.5, "all": 0.9}
"""The share of people's instructions that are of a product in the shop, at the least. The release's small shop has 57 % of them, as the
file is that of the large one, which has all."""
_LONGEST_ID = 10
_TEXTS = ("name", "category", "query", "product_category", "full_description", "small_description")
_BATCH = 2000  # titles tagged at once
_SHOWN = 5


class OfficialError(Fault, ValueError):
    """Official files are missing or malformed: says which file and row, what was expected, what was found."""


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Value(_Row):
    value: str


class _Item(_Row):
    asin: str
    name: str
    category: str
    query: str
    product_category: str
    full_description: str
    small_description: list[str] | str
    pricing: str | None = None
    customization_options: dict[str, list[_Value] | None]

    @field_validator("customization_options", mode="before")
    @classmethod
    def _none(cls, options: object) -> object:
        return options or {}


class _Attributes(_Row):
    attributes: list[str] | None = None
    instruction: str | None = None
    instruction_attributes: list[str] | None = None


class HumanInstruction(_Row):
    """What a person asked for, and the attributes and option values that their words name."""

    instruction: str
    instruction_attributes: list[str]
    instruction_options: list[str]


@dataclass(frozen=True)
class OfficialData:
    """`products` in upstream's order; instructions by product id; `files` maps file names to their sha256; `nouns` says who tagged
    the titles; `left_out` maps a reason to the rows that were left out for it, each by its number from 0 and its id."""

    products: Sequence[Product]
    human: Mapping[str, list[HumanInstruction]]
    synthetic: Mapping[str, tuple[str, tuple[str, ...]]]
    files: Mapping[str, str]
    nouns: str
    left_out: Mapping[str, Sequence[str]]


def read_official(folder: Path, *, products: Literal["1000", "all"], seed: int, nouns: Nouns) -> OfficialData:
    """Read and check the three files. Raises `OfficialError` for the first faulty row of a file."""
    names = FILES[products]
    paths = [folder / name for name in names]
    for path in paths:
        _check_there(path)
    attributes, attributes_sha256 = _load(paths[1])
    human, human_sha256 = _load(paths[2])
    reader = _Reader(paths[0], attributes, paths[1], random.Random(seed), nouns)
    with tempfile.TemporaryDirectory() as scratch:
        shelf = Shelf.write(Path(scratch), reader.products())  # it stays open when the folder is gone
    asked = {asin: rows for asin, rows in human.items() if asin in reader.known}
    left_out = dict(reader.left_out)
    if strangers := [f"product {asin}" for asin in human if asin not in asked]:
        left_out["an instruction without its product"] = strangers
    _check_met(paths, human, asked, LEAST_MET[products], len(shelf))
    return OfficialData(
        products=shelf,
        human={asin: _checked(paths[2], f"product {asin}", _INSTRUCTIONS, rows) for asin, rows in asked.items()},
        synthetic=reader.synthetic,
        files=dict(zip(names, (reader.sha256.hexdigest(), attributes_sha256, human_sha256), strict=True)),
        nouns=nouns.name,
        left_out=left_out,
    )


class _Reader:
    """One pass over the products. Filled on the way: `known` ids, `synthetic` instructions, what is `left_out`, the file's hash."""

    def __init__(
        self, path: Path, attributes: Mapping[str, Any], attributes_path: Path, rng: random.Random, nouns: Nouns
    ) -> None:
        self.known: set[str] = set()
        self.synthetic: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.left_out: dict[str, list[str]] = defaultdict(list)
        self.sha256 = hashlib.sha256()
        self._path, self._attributes, self._attributes_path = path, attributes, attributes_path
        self._rng, self._nouns = rng, nouns

    def products(self) -> Iterator[Product]:
        items = self._items()
        while batch := list(islice(items, _BATCH)):
            for (place, item), found in zip(batch, self._nouns([item.name for _, item in batch]), strict=True):
                yield self._product(place, item, found)

    def _items(self) -> Iterator[tuple[str, _Item]]:
        """The rows that count, each with what to call it."""
        for number, row in enumerate(self._rows()):
            if not isinstance(row, dict) or not isinstance(row.get("asin"), str):
                found = row.get("asin") if isinstance(row, dict) else row
                raise OfficialError(
                    f"{self._path}: row {number}: a product with its id (asin) expected, {_short(found)} found; "
                    "take the release's file"
                )
            place = f"row {number}, product {row['asin'][:20]}"
            if reason := self._reason(row):
                self.left_out[reason].append(place)
            else:
                self.known.add(row["asin"])
                yield place, _checked(self._path, place, _ITEM, row)

    def _reason(self, row: Mapping[str, Any]) -> str | None:
        """Why a row does not count."""
        if row["asin"] == "nan" or len(row["asin"]) > _LONGEST_ID:
            return f"an id that is nan or longer than {_LONGEST_ID}"
        if row["asin"] in self.known:
            return "an id that an earlier row has"
        lacks = [name for name in _TEXTS if (text := row.get(name)) is None or text != text]  # NaN is not itself
        return f"no {', '.join(lacks)}" if lacks else None

    def _rows(self) -> Iterator[Any]:
        try:
            with self._path.open("rb") as file:
                yield from elements(file, self.sha256.update)
        except ValueError as error:
            raise OfficialError(f"{self._path}: no list in JSON ({error}); get the file again") from error

    def _product(self, place: str, item: _Item, nouns: tuple[str, ...]) -> Product:
        try:
            prices = read_prices(item.pricing)
        except ValueError as error:
            raise OfficialError(
                f"{self._path}: {place}: pricing such as '$9.99' or '$9.99$19.99' expected, "
                f"{item.pricing!r} found; correct it, or take the release's file"
            ) from error
        known = _checked(
            self._attributes_path, f"product {item.asin}", _ATTRIBUTES, self._attributes.get(item.asin, {})
        )
        if known.instruction is not None:
            self.synthetic[item.asin] = known.instruction, tuple(known.instruction_attributes or ())
        bullets = [item.small_description] if isinstance(item.small_description, str) else item.small_description
        return Product(
            asin=item.asin,
            title=item.name,
            category=item.category,
            query=item.query.lower().strip(),
            path=item.product_category,
            description=item.full_description,
            bullets=tuple(bullets),
            attributes=NO_ATTRIBUTES if known.attributes is None else tuple(known.attributes),
            options={
                group.lower(): tuple(v.value.strip().replace("/", " | ").lower() for v in values)
                for group, values in item.customization_options.items()
                if values is not None
            },
            price_tag=" to ".join(f"${price}" for price in prices),
            price=prices[0] if len(prices) == 1 else self._rng.uniform(*prices),
            nouns=nouns,
        )


_ITEM = TypeAdapter(_Item)
_ATTRIBUTES = TypeAdapter(_Attributes)
_INSTRUCTIONS = TypeAdapter(list[HumanInstruction])


def _load(path: Path) -> tuple[Mapping[str, Any], str]:
    """A JSON file's content, by product, and its sha256."""
    try:
        content = path.read_bytes()
        rows = json.loads(content)
    except ValueError as error:
        raise OfficialError(f"{path}: no JSON file ({error}); get it again") from error
    if not isinstance(rows, dict):
        raise OfficialError(f"{path}: rows by product id expected, {_short(rows)} found; take the release's file")
    return rows, hashlib.sha256(content).hexdigest()


def _check_there(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise OfficialError(
            f"{path}: can't be read ({error.strerror}). WebShop's data are {', '.join(FILES['1000'])}, or {', '.join(FILES['all'])}; "
            "get them with the official repository's setup.sh and set panels.webshop.data_dir to their folder"
        ) from error


def _check_met(
    paths: Sequence[Path], human: Mapping[str, Any], asked: Mapping[str, Any], least: float, products: int
) -> None:
    """Raise `OfficialError` where the instructions are another shop's."""
    every, met = (
        sum(len(rows) if isinstance(rows, list) else 1 for rows in found.values()) for found in (human, asked)
    )
    if met < least * every:
        raise OfficialError(
            f"{paths[2]}: {met} of its {every} instructions are of the {products} products in {paths[0].name}, at least "
            f"{least:.0%} expected: the files are of two shops; take all three of one"
        )


def _checked(path: Path, place: str, form: TypeAdapter[Any], row: Any) -> Any:
    try:
        return form.validate_python(row)
    except ValidationError as error:
        faults = error.errors()
        said = [
            f"{'.'.join(map(str, fault['loc'])) or 'the row'}: {fault['msg']}, found {_short(fault['input'])}"
            for fault in faults[:_SHOWN]
        ]
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise OfficialError(
            f"{path}: {place}: {'; '.join(said)}{more}. Correct it, or take the release's file"
        ) from None


def _short(value: object) -> str:
    return repr(value)[:80]


def read_prices(tag: str | None) -> tuple[float, ...]:
    """One price in dollars, or the two ends of a range; upstream's default where there is none. Raises ValueError for what is none."""
    if not tag:
        return (NO_PRICE,)
    prices = [float(re.sub(r"[^\d.]", "", part)) for part in tag.split("$")[1:]]
    if not prices:
        raise ValueError("no dollar sign")
    return tuple(prices[:2])
