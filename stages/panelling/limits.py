"""What a limit leaves of a panel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import zip_longest
from typing import TypeVar

Item = TypeVar("Item")


def cut(items: Sequence[Item], kind: Callable[[Item], Hashable], limit: int | None) -> list[Item]:
    """At most `limit` items, in their order: the first ones of each kind, kinds taking turns. None: all."""
    if limit is None:
        return list(items)
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        places[kind(item)].append(place)
    in_turn = [place for round_ in zip_longest(*places.values()) for place in round_ if place is not None]
    return [items[place] for place in sorted(in_turn[:limit])]
