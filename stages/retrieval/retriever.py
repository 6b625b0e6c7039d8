"""Which hints a system is shown: chosen once, at the start of an episode."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, get_args

from stages.core.arms import Retrieval
from stages.core.params import Cell, Hints, Scope, Way
from stages.core.records import BankEntry, Message, Opening, read
from stages.retrieval import choosing
from stages.retrieval.oracle import ANY, read_oracle
from stages.retrieval.scoring import WAYS, check_installed, fit

DATA = Path("data")
BY_RANK = ("rank", "category")
HINTED: tuple[str, ...] = get_args(Retrieval)


@dataclass(frozen=True)
class Start:
    """What is known when hints are chosen: the task's goal and the first observation (`opening`), and the `category` to choose by."""

    task_id: str
    category: str
    goal: str
    opening: str


@dataclass(frozen=True)
class Retrieved:
    """Bank entries and their texts in the order shown; `retrieve_tokens` is what the choice cost a model, `fault` why a model's choice
    could not be read, and hints were taken by rank in its place (empty: it could, or none was asked)."""

    entry_ids: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    retrieve_tokens: int = 0
    fault: str = ""


@dataclass(frozen=True)
class Question:
    """What a model is asked before hints are known. `chosen` makes hints of its reply ("" and why, where it gave none) and of the tokens that it took."""

    messages: tuple[Message, ...]
    chosen: Callable[[str, int, str], Retrieved]


class Chooser(Protocol):
    """What chooses hints."""

    def retrieve(self, start: Start) -> Retrieved | Question: ...


class Retriever:
    """Chooses hints as a system does.

    `rag`: k of the task's category, or of the whole bank where `scope` says so, in one of four ways. `rank`: the first ones; `bm25`, `dense`: those
    whose texts fit the goal better than they fit train goals on average, the best first, then those that fit the first observation so, then the
    others by rank; `llm`: those that the agent's own model picks, up to k.
    `constant` and `random` are its controls: the same k for every task (the most frequent over all categories), and k different ones from
    the whole bank, drawn by `seed` and task id. `rag_wrong` is shown what `rag` is in categories other than the task's: by rank, those of one rank
    in an order drawn by `seed` and task id, and no text that the task's own category has. `oracle` is `rag` by rank on a bank written by hand.
    Every other system is shown none.
    """

    def __init__(
        self,
        system: str,
        bank: Sequence[BankEntry],
        k: int,
        seed: int,
        way: Way = "rank",
        scope: Scope = "category",
        openings: Sequence[Opening] = (),
    ) -> None:
        """`openings` are the train tasks'. Raises ValueError for a bank that mixes environments or agents, `RetrievalFault` where the way's package is missing."""
        if len({(entry.env, entry.agent) for entry in bank}) > 1:
            raise ValueError("the bank mixes environments or agents; give the entries of one pair")
        if system == "rag" and way == "dense":
            check_installed()
        self.bank = bank
        self._system, self._k, self._seed = system, k, seed
        self._way, self._scope, self._openings = way, scope, openings

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """What hints are chosen by, besides the bank's texts and ranks, and k; `BY_RANK` also where neither way nor scope matters."""
        counts = [f"{entry.entry_id} {entry.count}" for entry in self.bank]
        if self._system == "constant":
            return ("constant", *counts)
        if self._system != "rag":
            return BY_RANK
        whole = counts if self._scope == "bank" else ()
        return (self._way, self._scope, *whole, *(text for o in self._openings for text in (o.goal, o.opening)))

    def retrieve(self, start: Start) -> Retrieved | Question:
        """Hints for one task, or what to ask the agent's model for them."""
        if self._system == "constant":
            return _shown(self._most_frequent()[: self._k])
        if self._system == "random":
            return _shown(self._drawn(start.task_id)[: self._k])
        if self._system == "rag_wrong":
            return _shown(self._foreign(start.category, start.task_id)[: self._k])
        if self._system == "oracle":
            return _shown([*self._own(start.category), *self._own(ANY)][: self._k])
        pool = self._pool(start.category) if self._system == "rag" else []
        if self._way == "llm" and len(pool) > self._k:
            return self._question(start, pool)
        return _shown(self._fitting(start, pool)[: self._k])

    def shortfalls(self, categories: Mapping[str, int]) -> list[str]:
        """Where the bank has fewer hints than a task is to be shown, a line each; `categories` counts the tasks by the category to choose by."""
        if self._system not in HINTED:
            return []
        whole = self._system in ("constant", "random") or (self._system == "rag" and self._scope == "bank")
        if whole or not self.bank:
            there = len({entry.text for entry in self.bank})
            return [f"the bank has {there or 'no'} hints, and hints.k asks for {self._k}"] if there < self._k else []
        has = {category: self._number(category) for category in categories}
        who = "every category but {} together" if self._system == "rag_wrong" else "category {}"
        return [
            f"{who.format(category)} has {has[category] or 'no'} hints, and hints.k asks for {self._k}: {tasks} tasks are shown fewer"
            for category, tasks in sorted(categories.items())
            if has[category] < self._k
        ]

    def _number(self, category: str) -> int:
        """How many hints there are for the tasks of a category."""
        if self._system == "rag_wrong":
            return len(self._foreign(category, ""))
        return len(self._own(category)) + (len(self._own(ANY)) if self._system == "oracle" else 0)

    def _question(self, start: Start, pool: Sequence[BankEntry]) -> Question:
        def chosen(reply: str, tokens: int, fault: str) -> Retrieved:
            picks, unreadable = ([], fault) if fault else choosing.read(reply, len(pool))
            entries = pool if unreadable else [pool[number - 1] for number in picks]
            return replace(_shown(entries[: self._k]), retrieve_tokens=tokens, fault=unreadable)

        return Question(tuple(choosing.ask(start.goal, start.opening, [e.text for e in pool], self._k)), chosen)

    def _fitting(self, start: Start, pool: list[BankEntry]) -> list[BankEntry]:
        if self._way not in WAYS or not pool:
            return pool
        texts = tuple(entry.text for entry in pool)
        goals, openings = (tuple(getattr(o, part) for o in self._openings) for part in ("goal", "opening"))
        goal, opening = fit(self._way, texts, start.goal, goals), fit(self._way, texts, start.opening, openings)
        return [pool[n] for n in sorted(range(len(pool)), key=lambda n: (-goal[n], -opening[n], n))]

    def _pool(self, category: str) -> list[BankEntry]:
        """The entries to choose from, by rank, over the whole bank the more frequent first of one rank. There a text that stands in several categories is one, goes by its best rank, and is
        the category's own entry where that has one."""
        own = self._own(category)
        if self._scope == "category":
            return own
        ranks: dict[str, int] = {}
        for entry in sorted(self.bank, key=lambda entry: entry.rank):
            ranks.setdefault(entry.text, entry.rank)
        by_text = {entry.text: entry for entry in [*self._most_frequent(), *own]}
        return sorted(by_text.values(), key=lambda entry: ranks[entry.text])

    def _own(self, category: str) -> list[BankEntry]:
        return sorted((entry for entry in self.bank if entry.category == category), key=lambda entry: entry.rank)

    def _foreign(self, category: str, task_id: str) -> list[BankEntry]:
        """The other categories' entries by rank, each text once, without those that the category has too."""
        own = {entry.text for entry in self._own(category)}
        others = [entry for entry in self._shuffled(f"{self._seed}|wrong|{task_id}") if entry.category != category]
        different: dict[str, BankEntry] = {}
        for entry in sorted(others, key=lambda entry: entry.rank):
            different.setdefault(entry.text, entry)
        return [entry for text, entry in different.items() if text not in own]

    def _most_frequent(self) -> list[BankEntry]:
        """Different texts, the most frequent first. A text that stands in several categories counts with all of them, and goes by its most
        frequent entry's id."""
        by_text: dict[str, list[BankEntry]] = defaultdict(list)
        for entry in self.bank:
            by_text[entry.text].append(entry)
        texts = sorted(by_text, key=lambda text: (-sum(e.count for e in by_text[text]), text))
        return [min(by_text[text], key=lambda e: (-e.count, e.entry_id)) for text in texts]

    def _drawn(self, task_id: str) -> list[BankEntry]:
        different: dict[str, BankEntry] = {}
        # A text that stands in several categories is shown once.
        for entry in self._shuffled(f"{self._seed}|{task_id}"):
            different.setdefault(entry.text, entry)
        return list(different.values())

    def _shuffled(self, seed: str) -> list[BankEntry]:
        entries = sorted(self.bank, key=lambda entry: entry.entry_id)
        random.Random(seed).shuffle(entries)
        return entries


def open_retriever(system: str, cell: Cell, hints: Hints, seed: int) -> Retriever:
    """What chooses a system's hints in a cell, with the cell's bank. Raises `RecordError` or `OracleError` where that is missing, `RetrievalFault` as
    `Retriever`."""
    if system not in HINTED:
        return Retriever(system, [], hints.k, seed)
    if system == "oracle":
        return Retriever(system, read_oracle(cell), hints.k, seed)
    folder = DATA / "hints" / cell
    bank = read(folder / "bank.parquet", BankEntry)
    compared = system == "rag" and hints.retrieval in WAYS
    openings = read(folder / "openings.parquet", Opening) if compared else ()
    return Retriever(system, bank, hints.k, seed, hints.retrieval, hints.scope, openings)


def _shown(entries: Sequence[BankEntry]) -> Retrieved:
    return Retrieved(tuple(e.entry_id for e in entries), tuple(e.text for e in entries))
