"""Upstream's search: Lucene's BM25 over an English analyzer, without Java.

Anserini's settings: k1 = 0.9, b = 0.4. Lucene keeps document lengths in one byte, which loses digits and so decides ties; equal scores
stand in the order of the ids. The stemmer is Porter's with Martin's extensions, which is Lucene's.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

from stages.envs.webshop.records import Product

K1, B = 0.9, 0.4

_STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was "
    "will with"
)
_STOP = frozenset(_STOP_WORDS.split())
# The word breaks of Unicode (UAX 29), as far as product texts need them.
_WORD = re.compile(r"[^\W_](?:\w|(?<=[^\W\d_])['\u2019.:·](?=[^\W\d_])|(?<=\d)[.,'\u2019;](?=\d))*|_\w+")
_RAISED = dict.fromkeys(map(ord, "²³¹½¼¾⅓⅔⅛⅜⅝⅞⁰⁴⁵⁶⁷⁸⁹"), " ")


def analyze(text: str) -> list[str]:
    """The terms of a text: words in lower case, possessives and stop words dropped, stemmed."""
    terms = []
    for match in _WORD.finditer(text.translate(_RAISED)):
        word = match[0]
        if len(word) > 2 and word[-1] in "sS" and word[-2] in "'\u2019":
            word = word[:-2]
        word = word.lower()
        if word not in _STOP:
            terms.append(_stem(word))
    return terms


def index_text(product: Product) -> str:
    """What of a product is searched: title, description, first bullet and options."""
    options = ", and ".join(f"{group}: {', '.join(values)}" for group, values in product.options.items())
    return " ".join([product.title, product.description, *product.bullets[:1], options]).lower()


class Index:
    """BM25 over documents in memory; postings are arrays, so that a query over 20,000 documents takes milliseconds."""

    def __init__(self, ids: Sequence[str], texts: Sequence[str]) -> None:
        self._ids = list(ids)
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        lengths = np.zeros(len(self._ids))
        for number, text in enumerate(texts):
            terms = analyze(text)
            lengths[number] = len(terms)
            for term, count in Counter(terms).items():
                found[term].append((number, count))
        average = lengths.sum() / max(1, np.count_nonzero(lengths))
        kept = np.array([kept_length(int(length)) for length in lengths])
        norm = K1 * (1 - B + B * kept / average) if average else kept
        self._postings = {term: self._weigh(postings, norm) for term, postings in found.items()}
        self._place = np.empty(len(self._ids), dtype=np.int64)
        self._place[np.argsort(np.array(self._ids, dtype=object), kind="stable")] = np.arange(len(self._ids))

    def _weigh(self, postings: list[tuple[int, int]], norm: Any) -> tuple[Any, Any]:
        """Document numbers [n] and what the term adds to each one's score [n]."""
        documents, counts = np.array(postings, dtype=np.int64).T
        rarity = np.log(1 + (len(self._ids) - len(postings) + 0.5) / (len(postings) + 0.5))
        return documents, (rarity * (counts / (counts + norm[documents]))).astype(np.float32)

    def search(self, query: str, k: int = 50) -> list[str]:
        """Ids of the best `k` documents that hold a term of the query, best first."""
        scores = np.zeros(len(self._ids), dtype=np.float32)
        for term, count in Counter(analyze(query)).items():
            if term in self._postings:
                documents, weights = self._postings[term]
                scores[documents] += weights * np.float32(count)
        hits = np.flatnonzero(scores)
        best = hits[np.lexsort((self._place[hits], -scores[hits]))[:k]]
        return [self._ids[number] for number in best]


def kept_length(length: int) -> int:
    """A document's length as Lucene's one byte gives it back (SmallFloat's intToByte4): exact up to 39, then with 4 leading bits."""
    if length < 24:
        return length
    shift = max(0, (length - 24).bit_length() - 4)
    return 24 + ((length - 24) >> shift << shift)


@cache
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer  # here, as it takes a second

    return PorterStemmer(mode=PorterStemmer.MARTIN_EXTENSIONS)


@lru_cache(maxsize=200_000)
def _stem(word: str) -> str:
    return str(_stemmer().stem(word, to_lowercase=False))
