"""Products in a file, a JSON line each: any number of processes share its pages of memory, and read the products that they ask for."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np

from stages.envs.webshop.mapped import mapped
from stages.envs.webshop.records import Product

_LINES, _ENDS = "products.jsonl", "ends.npy"
_AT_HAND = 4000  # products that a process keeps after reading
_NAMES = tuple(field.name for field in fields(Product))


class Shelf(Sequence[Product]):
    """Products by number, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        """Open what `write` left in a folder."""
        self._ends = mapped(folder / _ENDS)
        with (folder / _LINES).open("rb") as file:
            self._lines: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self._ends[-1] else b""
        self._kept = lru_cache(maxsize=_AT_HAND)(self._read)

    @classmethod
    def write(cls, folder: Path, products: Iterable[Product]) -> Shelf:
        """Write products to a folder, one at a time, and open it."""
        with (folder / _LINES).open("wb") as file:
            ends = list(accumulate((file.write(_line(product)) for product in products), initial=0))
        np.save(folder / _ENDS, np.array(ends), allow_pickle=False)
        return cls(folder)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, number: int) -> Product: ...

    @overload
    def __getitem__(self, number: slice) -> list[Product]: ...

    def __getitem__(self, number: int | slice) -> Product | list[Product]:
        if isinstance(number, slice):
            return [self._kept(one) for one in range(len(self))[number]]
        return self._kept(range(len(self))[number] if number < 0 else number)

    def __iter__(self) -> Iterator[Product]:
        """All in turn, none kept."""
        return map(self._read, range(len(self)))

    def _read(self, number: int) -> Product:
        if number >= len(self):
            raise IndexError(f"no product {number} among {len(self)}")
        row: dict[str, Any] = json.loads(self._lines[self._ends[number] : self._ends[number + 1]])
        row["options"] = {group: tuple(values) for group, values in row["options"].items()}
        plain: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in row.items()}
        return Product(**plain)


class Picked(Sequence[Product]):
    """Some of a shop's products by their numbers, each read when it is asked for."""

    def __init__(self, products: Sequence[Product], numbers: Sequence[int]) -> None:
        self._products, self._numbers = products, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> Product: ...

    @overload
    def __getitem__(self, place: slice) -> list[Product]: ...

    def __getitem__(self, place: int | slice) -> Product | list[Product]:
        if isinstance(place, slice):
            return [self._products[number] for number in self._numbers[place]]
        return self._products[self._numbers[place]]


def _line(product: Product) -> bytes:
    row = {name: getattr(product, name) for name in _NAMES}
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
