"""Does a text carry a hint's words? The measures that the lessons' filter and their gates share."""

from __future__ import annotations

import re
from collections.abc import Iterable

NGram = tuple[str, ...]


def words(text: str) -> list[str]:
    """A text's words in lower case; numbers, braces and punctuation dropped, so that "{object}" is the word object."""
    return re.findall(r"[a-z]+", text.lower())


def ngrams(text: str, n: int) -> set[NGram]:
    """Every run of `n` words."""
    found = words(text)
    return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)}


def quoted(texts: Iterable[str], hints: Iterable[str]) -> str | None:
    """The first hint that stands in one of the texts word for word (case and spacing aside), or None."""
    plain = [" ".join(text.lower().split()) for text in texts]
    return next((hint for hint in hints if any(" ".join(hint.lower().split()) in text for text in plain)), None)


def overlap(texts: Iterable[str], hints: Iterable[str], shown: Iterable[str], n: int) -> str | None:
    """`n` words in a row that the texts share with a hint, or None.

    Runs that the environment itself showed (`shown`: observations, offered actions) don't count: repeating "take egg
    from countertop" is playing, not quoting.
    """
    suspects = set().union(*(ngrams(hint, n) for hint in hints))
    if not suspects:
        return None
    found = suspects & set().union(*(ngrams(text, n) for text in texts))
    found -= set().union(*(ngrams(text, n) for text in shown))
    return " ".join(min(found)) if found else None
