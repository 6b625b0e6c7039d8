"""Guesses at how a reply goes on, from how replies went on before: agents repeat themselves, and each other, word for word.

A pass checks a whole guess at once, and what it would have written itself is kept (speculative decoding, Leviathan et al., arXiv 2211.17192, with
a table of n-grams in place of a second model). Under greedy decoding replies stay what they are; there are fewer passes.
"""

from __future__ import annotations

from collections.abc import Sequence

CONTEXT = 5  # tokens that a guess at the next one rests on
LONGEST = 8  # tokens a guess
_SURE = 2  # times in a row that the same token must have followed
_ENTRIES = 100_000  # contexts that are remembered, the newest


class Drafter:
    """The token that followed each context when it was last written, and how many times in a row it was that one."""

    def __init__(self) -> None:
        self._followed: dict[tuple[int, ...], tuple[int, int]] = {}

    def learn(self, ids: Sequence[int], token: int) -> None:
        """`token` was written after `ids`."""
        context = tuple(ids[-CONTEXT:])
        last, times = self._followed.pop(context, (token, 0))
        self._followed[context] = (token, times + 1 if token == last else 1)
        if len(self._followed) > _ENTRIES:
            del self._followed[next(iter(self._followed))]

    def draft(self, ids: Sequence[int], most: int) -> list[int]:
        """At most `most` tokens that are likely to follow `ids`."""
        tail = list(ids[-CONTEXT:])
        guess: list[int] = []
        while len(guess) < min(most, LONGEST):
            token, times = self._followed.get(tuple(tail[-CONTEXT:]), (0, 0))
            if times < _SURE:
                break
            guess.append(token)
            tail.append(token)
        return guess
