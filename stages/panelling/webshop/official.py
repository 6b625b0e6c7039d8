"""Reader of WebShop's official files, which the generated catalogue is written as, too: one way in for both.

`items_shuffle*.json` holds the products, `items_ins_v2*.json` their attributes and synthetic instructions, `items_human_ins.json` the
instructions that people wrote. The clean-up is upstream's: `$100` where no price is given, a range's price drawn (here from an
explicit seed), values of options stripped, in lower case, with ` | ` for `/`; a repeated id counts once.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from stages.core.process import Fault
from stages.envs.webshop.records import Product
from stages.panelling.webshop.nouns import Nouns

FILES = {
    "1000": ("items_shuffle_1000.json", "items_ins_v2_1000.json", "items_human_ins.json"),
    "all": ("items_shuffle.json", "items_ins_v2.json", "items_human_ins.json"),
}
NO_PRICE = 100.0
NO_ATTRIBUTES = ("DUMMY_ATTR",)
_SHOWN_FAULTS = 5


class OfficialError(Fault, ValueError):
    """Official files are missing or malformed: says which file and row, what was expected, what was found."""


class _Row(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Value(_Row):
    value: str


class _Item(_Row):
    asin: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
    category: str
    query: str
    product_category: str
    full_description: str
    small_description: list[str] | str
    pricing: str | None = None
    customization_options: dict[str, list[_Value] | None] | Literal[""] | None


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
    the titles."""

    products: tuple[Product, ...]
    human: Mapping[str, list[HumanInstruction]]
    synthetic: Mapping[str, tuple[str, tuple[str, ...]]]
    files: Mapping[str, str]
    nouns: str


def read_official(folder: Path, *, products: Literal["1000", "all"], seed: int, nouns: Nouns) -> OfficialData:
    """Read and check the three files. Raises `OfficialError` with the first faulty rows of a file."""
    names = FILES[products]
    raw = {name: _load(folder / name) for name in names}
    items = _checked(folder / names[0], TypeAdapter(list[_Item]), raw[names[0]][0])
    attributes = _checked(folder / names[1], TypeAdapter(dict[str, _Attributes]), raw[names[1]][0])
    human = _checked(folder / names[2], TypeAdapter(dict[str, list[HumanInstruction]]), raw[names[2]][0])
    kept: dict[str, _Item] = {}
    for item in items:
        if item.asin != "nan" and len(item.asin) <= 10:
            kept.setdefault(item.asin, item)
    found = nouns([item.name for item in kept.values()])
    rng = random.Random(seed)
    return OfficialData(
        products=tuple(
            _product(folder / names[0], item, attributes.get(item.asin, _Attributes()), tagged, rng)
            for item, tagged in zip(kept.values(), found, strict=True)
        ),
        human={asin: rows for asin, rows in human.items() if asin in kept},
        synthetic={
            asin: (row.instruction, tuple(row.instruction_attributes or ()))
            for asin in kept
            if (row := attributes.get(asin)) is not None and row.instruction is not None
        },
        files={name: digest for name, (_, digest) in raw.items()},
        nouns=nouns.name,
    )


def _load(path: Path) -> tuple[Any, str]:
    """A JSON file's content and its sha256."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OfficialError(
            f"{path}: can't be read ({error.strerror}). WebShop's data are {', '.join(FILES['1000'])}, or {', '.join(FILES['all'])}; "
            "get them with the official repository's setup.sh and set panels.webshop.data_dir to their folder"
        ) from error
    try:
        return json.loads(content), hashlib.sha256(content).hexdigest()
    except ValueError as error:
        raise OfficialError(f"{path}: no JSON file ({error}); get it again") from error


def _checked(path: Path, form: TypeAdapter[Any], rows: Any) -> Any:
    try:
        return form.validate_python(rows)
    except ValidationError as error:
        faults = error.errors()
        lines = [
            f"  row {'.'.join(map(str, fault['loc'])) or '(top)'}: {fault['msg']}, found {str(fault['input'])[:80]!r}"
            for fault in faults[:_SHOWN_FAULTS]
        ]
        more = f"\n  and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
        raise OfficialError(f"{path}: {len(faults)} fault(s)\n" + "\n".join(lines) + more) from None


def _product(path: Path, item: _Item, attributes: _Attributes, nouns: tuple[str, ...], rng: random.Random) -> Product:
    try:
        prices = read_prices(item.pricing)
    except ValueError as error:
        raise OfficialError(
            f"{path}: product {item.asin}: pricing such as '$9.99' or '$9.99$19.99' expected, {item.pricing!r} found; correct it, or take the release's file"
        ) from error
    tag = f"${prices[0]}" if len(prices) == 1 else f"${prices[0]} to ${prices[1]}"
    bullets = [item.small_description] if isinstance(item.small_description, str) else item.small_description
    return Product(
        asin=item.asin,
        title=item.name,
        category=item.category,
        query=item.query.lower().strip(),
        path=item.product_category,
        description=item.full_description,
        bullets=tuple(bullets),
        attributes=NO_ATTRIBUTES if attributes.attributes is None else tuple(attributes.attributes),
        options={
            group.lower(): tuple(v.value.strip().replace("/", " | ").lower() for v in values)
            for group, values in (item.customization_options or {}).items()
            if values is not None
        },
        price_tag=tag,
        price=prices[0] if len(prices) == 1 else rng.uniform(*prices),
        nouns=nouns,
    )


def read_prices(tag: str | None) -> tuple[float, ...]:
    """One price in dollars, or the two ends of a range; upstream's default where there is none."""
    found = [re.sub(r"[^\d.]", "", part) for part in (tag or "").split("$")[1:]]
    return tuple(float(price) for price in found[:2]) or (NO_PRICE,)
