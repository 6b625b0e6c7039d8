"""Upstream's search: Lucene's BM25 over an English analyzer, without Java.

Anserini's settings: k1 = 0.9, b = 0.4. Lucene keeps document lengths in one byte, which loses digits and so decides ties; it reckons
what a term adds to a score in single precision, and adds in double; equal scores stand in the order of the ids.

A query that many documents answer is first put to a sample of them, which says what the last place takes at the least. Documents of
its rarest terms alone are then scored, as far as the other terms could lift no other into the result (MaxScore; Turtle and Flood 1995).
What it finds is what scoring every document would find.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, Self

import numpy as np

from stages.envs.webshop.analysis import analyze, part_terms
from stages.envs.webshop.mapped import Arrays, Groups, joined
from stages.envs.webshop.records import Product

K1, B = np.float32(0.9), np.float32(0.4)
_BATCH = 20_000  # documents counted at once
_PARTS = 1_000_000  # texts between spaces whose terms are remembered while counting
_TERMS = 20_000  # of queries, kept at hand
_MANY = 50_000  # postings of a query from which on it pays to leave documents out
_SAMPLE = 1_000  # documents of which the score of the last place is guessed, from below
_SLACK = 1 - 1e-6  # single precision rounds away less than this


def index_text(product: Product) -> str:
    """What of a product is searched: title, description, first bullet and options."""
    options = ", and ".join(f"{group}: {', '.join(values)}" for group, values in product.options.items())
    return " ".join([product.title, product.description, *product.bullets[:1], options]).lower()


@dataclass(frozen=True)
class _Scoring(Arrays):
    """`frequencies` [postings]: how often the term stands in the document; `peaks` [terms]: a frequency over its document's norm
    at the most; `norms` [documents]: 1 / (k1 (1 - b + b length / average length)); `filled` [1]: documents with a term."""

    frequencies: Any
    peaks: Any
    norms: Any
    filled: Any


class Index:
    """BM25 over documents, numbered from 0. `ids` maps each id to its document's number."""

    def __init__(self, ids: Groups, postings: Groups, scoring: _Scoring) -> None:
        self.ids, self._postings, self._scoring = ids, postings, scoring
        self._order = np.empty(len(ids), np.int32)  # a document's place among equal scores
        self._order[ids.numbers] = np.arange(len(ids), dtype=np.int32)
        self._known = lru_cache(maxsize=_TERMS)(self._term)

    @classmethod
    def of(cls, documents: Iterable[tuple[str, str]]) -> Self:
        """Index documents, each an id that no other has and a text."""
        terms: dict[str, int] = {}
        ids: dict[str, tuple[int]] = {}
        batches = list(_counted(documents, terms, ids))
        lengths = np.concatenate([np.zeros(0, np.int64), *(length for *_, length in batches)])
        postings, frequencies = _by_term(terms, [batch[:3] for batch in batches])
        filled = np.count_nonzero(lengths)
        average = np.float32(lengths.sum() / max(1, filled)) or np.float32(1)
        norms = 1 / (K1 * ((1 - B) + B * kept_lengths(lengths).astype(np.float32) / average))
        peaks = np.zeros(len(postings), np.float32)
        if len(postings):
            np.maximum.reduceat(frequencies * norms[postings.numbers], postings.starts[:-1], out=peaks)
        return cls(Groups.of(ids), postings, _Scoring(frequencies, peaks, norms, np.array([filled])))

    def keep(self, folder: Path) -> None:
        """Write the index to a folder."""
        self.ids.keep(folder / "ids")
        self._postings.keep(folder / "postings")
        self._scoring.keep(folder / "scoring")

    @classmethod
    def mapped(cls, folder: Path) -> Self:
        """The index that a folder keeps."""
        ids, postings = Groups.mapped(folder / "ids"), Groups.mapped(folder / "postings")
        return cls(ids, postings, _Scoring.mapped(folder / "scoring"))

    def search(self, query: str, k: int = 50) -> list[int]:
        """The best `k` documents that hold a term of the query, best first."""
        found = [self._known(term, count) for term, count in Counter(analyze(query)).items()]
        terms = sorted((term for term in found if term), key=lambda term: (len(term.documents), term.place))
        left = np.cumsum([0.0, *(term.bound for term in reversed(terms))])[::-1]  # what the terms from n on add at most
        least = self._promise(terms, k) * _SLACK if sum(len(term.documents) for term in terms) > _MANY else 0.0
        needed = int(np.argmax(left < least)) if left[-1] < least else len(terms)
        every = np.zeros(len(self._order))
        for term in terms[:needed]:
            every[term.documents] += self._parts(term)
        hits = np.flatnonzero(every >= max(least - left[needed], np.finfo(float).tiny)).astype(np.int32)
        scores = every[hits]
        for term, rest in zip(terms[needed:], left[needed + 1 :], strict=True):
            self._add(term, hits, scores)
            likely = scores + rest >= least
            hits, scores = hits[likely], scores[likely]
        rounded = scores.astype(np.float32)
        best = rounded >= _last_of(rounded, k)
        hits, rounded = hits[best], rounded[best]
        return [int(hit) for hit in hits[np.lexsort((self._order[hits], -rounded))[:k]]]

    def _promise(self, terms: list[_Term], k: int) -> float:
        """What the k-th best score is at the least: that of a sample, the documents best in the rarest terms."""
        sample = np.zeros(0, np.int32)
        for term in terms:
            parts = self._parts(term)
            most = np.argpartition(parts, -_SAMPLE)[-_SAMPLE:] if len(parts) > _SAMPLE else slice(None)
            sample = np.union1d(sample, term.documents[most])
            if len(sample) >= _SAMPLE:
                break
        scores = np.zeros(len(sample))
        for term in terms:
            self._add(term, sample, scores)
        return _last_of(scores, k)

    def _term(self, term: str, count: int) -> _Term | None:
        """A term of a query that has it `count` times; None if no document has it."""
        place = self._postings.place(term)
        if place is None:
            return None
        documents = self._postings.at(place)
        rarity = np.log(1 + (self._scoring.filled[0] - len(documents) + 0.5) / (len(documents) + 0.5))
        weight = np.float32(count) * np.float32(rarity)
        return _Term(place, documents, weight, float(weight - weight / (1 + self._scoring.peaks[place])))

    def _parts(self, term: _Term, which: Any = ...) -> Any:
        """What a term adds to the scores of its documents, or of those of them that `which` picks."""
        start = self._postings.starts[term.place]
        frequencies = self._scoring.frequencies[start : start + len(term.documents)][which]
        return term.weight - term.weight / (1 + frequencies * self._scoring.norms[term.documents[which]])

    def _add(self, term: _Term, documents: Any, scores: Any) -> None:
        """Add what a term adds to the scores of these documents: in order, and of its own ones' type, which else are copied."""
        places = np.minimum(np.searchsorted(term.documents, documents), len(term.documents) - 1)
        here = np.flatnonzero(term.documents[places] == documents)
        scores[here] += self._parts(term, places[here])


@dataclass(frozen=True)
class _Term:
    """A query's term: its place among the terms, the documents that have it, its weight, and what it adds to a score at most."""

    place: int
    documents: Any
    weight: Any
    bound: float


def _last_of(scores: Any, k: int) -> float:
    """The k-th highest score; 0 where there are fewer."""
    return float(np.partition(scores, -k)[-k]) if len(scores) >= k else 0.0


def kept_lengths(lengths: Any) -> Any:
    """Documents' lengths as Lucene's one byte gives them back (SmallFloat's intToByte4): exact up to 39, then with 4 leading bits."""
    bits = np.frexp(np.maximum(lengths - 24, 0))[1]
    shift = np.maximum(0, bits - 4)
    return np.where(lengths < 24, lengths, 24 + ((lengths - 24) >> shift << shift))


class _Numbered(dict[str, tuple[int, ...]]):
    """The numbers of a text's terms, where the text has no space; new terms get the next ones."""

    def __init__(self, terms: dict[str, int]) -> None:
        super().__init__()
        self._terms = terms

    def __missing__(self, part: str) -> tuple[int, ...]:
        if len(self) >= _PARTS:
            self.clear()
        self[part] = numbers = tuple(self._terms.setdefault(term, len(self._terms)) for term in part_terms(part))
        return numbers


def _counted(
    documents: Iterable[tuple[str, str]], terms: dict[str, int], ids: dict[str, tuple[int]]
) -> Iterator[tuple[Any, Any, Any, Any]]:
    """By batch of documents: terms, documents and counts [postings], ordered by term and document, and lengths [documents].
    Numbers terms and documents on the way."""
    numbered, rest = _Numbered(terms), iter(documents)
    while batch := list(islice(rest, _BATCH)):
        first = len(ids)
        ids.update((name, (number,)) for number, (name, _) in enumerate(batch, first))
        found = [list(chain.from_iterable(map(numbered.__getitem__, text.split(" ")))) for _, text in batch]
        lengths = np.array([len(numbers) for numbers in found], np.int64)
        pairs = np.fromiter(chain.from_iterable(found), np.int64, lengths.sum()) << 32
        pairs |= np.repeat(np.arange(first, first + len(batch)), lengths)
        pairs, counts = np.unique(pairs, return_counts=True)
        most = np.minimum(counts, np.iinfo(np.uint16).max).astype(np.uint16)
        yield (pairs >> 32).astype(np.int32), pairs.astype(np.int32), most, lengths


def _by_term(terms: dict[str, int], batches: list[tuple[Any, Any, Any]]) -> tuple[Groups, Any]:
    """The batches' postings put together, by term in the order of spelling; and their counts. The batches are used up."""
    names = sorted(terms)
    place = np.empty(len(names), np.int64)
    place[[terms[name] for name in names]] = np.arange(len(names))
    sizes = np.zeros(len(names), np.int64)
    for number, *_ in batches:
        sizes += np.bincount(place[number], minlength=len(names))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    documents, frequencies = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.uint16)
    free = starts[:-1].copy()
    while batches:
        number, document, count = batches.pop(0)
        by_name = np.argsort(place[number], kind="stable")
        own, size = np.unique(place[number], return_counts=True)
        to = np.repeat(free[own] - np.cumsum(size) + size, size) + np.arange(len(number))
        documents[to], frequencies[to] = document[by_name], count[by_name]
        free[own] += size
    return Groups(*joined(names), starts, documents), frequencies
