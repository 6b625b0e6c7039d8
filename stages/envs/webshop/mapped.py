"""Lookups that lie in arrays: in memory, or mapped from files that any number of processes share."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, Self

import numpy as np


@dataclass(frozen=True)
class Arrays:
    """Arrays of any kind, each a file `<name>.npy` when kept."""

    def keep(self, folder: Path) -> None:
        """Write them to a new folder."""
        folder.mkdir(parents=True)
        for field in fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name), allow_pickle=False)

    @classmethod
    def mapped(cls, folder: Path) -> Self:
        """Those that a folder keeps; what is read of them comes from the file when it is asked for."""
        return cls(*(mapped(folder / f"{field.name}.npy") for field in fields(cls)))


@dataclass(frozen=True)
class Groups(Arrays):
    """Numbers by key: `text` has the sorted keys in UTF-8, key n ends at `ends[n]` [keys + 1] and its numbers are
    `numbers[starts[n] : starts[n + 1]]`."""

    text: Any
    ends: Any
    starts: Any
    numbers: Any

    @classmethod
    def of(cls, groups: Mapping[str, Sequence[int]]) -> Self:
        keys = sorted(groups)
        starts = np.fromiter(accumulate((len(groups[key]) for key in keys), initial=0), np.int64, len(keys) + 1)
        numbers = np.fromiter(chain.from_iterable(groups[key] for key in keys), np.int32, starts[-1])
        return cls(*joined(keys), starts, numbers)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def _views(self) -> tuple[memoryview, memoryview]:
        """Keys and their ends again, in the form that is quickest to read one at a time."""
        return memoryview(self.text), memoryview(self.ends)

    def key(self, place: int) -> bytes:
        text, ends = self._views
        return bytes(text[ends[place] : ends[place + 1]])

    def place(self, key: str) -> int | None:
        """Where a key stands among the keys; None for one that is not there."""
        wanted = key.encode(errors="surrogatepass")
        place = bisect_left(range(len(self)), wanted, key=self.key)
        return place if place < len(self) and self.key(place) == wanted else None

    def at(self, place: int) -> Any:
        """The numbers of the key at a place."""
        return self.numbers[self.starts[place] : self.starts[place + 1]]

    def find(self, key: str) -> Any:
        """The numbers of a key; none for one that is not there."""
        place = self.place(key)
        return self.numbers[:0] if place is None else self.at(place)


def joined(keys: Iterable[str]) -> tuple[Any, Any]:
    """Strings as one run of bytes in UTF-8, and where each ends, after a 0."""
    parts = [key.encode() for key in keys]
    ends = np.fromiter(accumulate(map(len, parts), initial=0), np.int64, len(parts) + 1)
    return np.frombuffer(b"".join(parts), np.uint8), ends


def mapped(path: Path) -> Any:
    """The array that a file holds."""
    array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    return np.asarray(array)  # still mapped, but not of the class whose slices are slow
