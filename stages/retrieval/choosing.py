"""A model's own choice of hints: the question, and what its reply picks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stages.core.records import Message
from stages.core.thinking import aloud
from stages.retrieval.prompt import QUESTION, SYSTEM

_NUMBERS = re.compile(r"(?:hints?|numbers?|and|none|\d|[\s\[\](){}.,;:#*`-])*", re.IGNORECASE)
_OTHER = re.compile(r"\d[-.]\d|\d{5}")  # a range, a fraction, more than any bank has


def ask(goal: str, opening: str, texts: Sequence[str], k: int) -> list[Message]:
    """The question which of the texts help, at most `k`."""
    listed = "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))
    question = QUESTION.format(goal=goal, opening=opening.strip(), hints=listed, k=k, n=len(texts))
    return [Message("system", SYSTEM), Message("user", question)]


def read(reply: str, n: int) -> tuple[list[int], str]:
    """The numbers picked, from 1 to `n`, each once, in the reply's order; and why it cannot be read, else "".

    A reply is read only where it is a list of numbers and nothing else: one that talks may mean any number in it.
    """
    said = aloud(reply).strip()
    readable = _NUMBERS.fullmatch(said) and not _OTHER.search(said)
    numbers = [int(number) for number in re.findall(r"\d+", said)] if readable else []
    if not readable or not (numbers or "none" in said.lower()):
        return [], f"no list of numbers: {said[:80]!r}"
    beyond = [number for number in numbers if number > n]
    if beyond:
        return [], f"picks hint {beyond[0]} of {n}"
    return list(dict.fromkeys(number for number in numbers if number)), ""
