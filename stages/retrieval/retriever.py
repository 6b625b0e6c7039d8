"""Which hints a system is shown: chosen once, at the start of an episode."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.core.records import BankEntry


@dataclass(frozen=True)
class Retrieved:
    """Bank entries and their texts in the order shown; `retrieve_tokens` is what the choice cost a model."""

    entry_ids: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    retrieve_tokens: int = 0


class Retriever:
    """Chooses hints as a system does.

    `rag`: the first k of the task's category, by rank; none where the bank has none. `constant` and `random` are its
    controls: the same k for every task (the most frequent over all categories), and k different ones from the whole
    bank, drawn by `seed` and task id. Every other system is shown none.
    """

    def __init__(self, system: str, bank: Sequence[BankEntry], k: int, seed: int) -> None:
        """Raises ValueError for a bank that mixes environments or agents."""
        if len({(entry.env, entry.agent) for entry in bank}) > 1:
            raise ValueError("the bank mixes environments or agents; give the entries of one pair")
        self._bank = bank
        self._k = k
        self._seed = seed
        ways: dict[str, Callable[[str, str], list[BankEntry]]] = {
            "rag": self._of_category,
            "constant": self._most_frequent,
            "random": self._drawn,
        }
        self._choose = ways.get(system)

    def retrieve(self, task_id: str, category: str) -> Retrieved:
        """Hints for one task. The ways above ask no model, so they cost no tokens."""
        if self._choose is None:
            return Retrieved()
        entries = self._choose(task_id, category)
        return Retrieved(tuple(e.entry_id for e in entries), tuple(e.text for e in entries))

    def _of_category(self, task_id: str, category: str) -> list[BankEntry]:
        entries = [entry for entry in self._bank if entry.category == category]
        return sorted(entries, key=lambda entry: entry.rank)[: self._k]

    def _most_frequent(self, task_id: str, category: str) -> list[BankEntry]:
        """A text that stands in several categories counts with all of them, and goes by its most frequent entry's
        id."""
        by_text: dict[str, list[BankEntry]] = defaultdict(list)
        for entry in self._bank:
            by_text[entry.text].append(entry)
        texts = sorted(by_text, key=lambda text: (-sum(e.count for e in by_text[text]), text))
        return [min(by_text[text], key=lambda e: (-e.count, e.entry_id)) for text in texts[: self._k]]

    def _drawn(self, task_id: str, category: str) -> list[BankEntry]:
        entries = sorted(self._bank, key=lambda entry: entry.entry_id)
        random.Random(f"{self._seed}|{task_id}").shuffle(entries)
        different: dict[str, BankEntry] = {}
        for entry in entries:  # a text that stands in several categories is shown once
            different.setdefault(entry.text, entry)
        return list(different.values())[: self._k]
