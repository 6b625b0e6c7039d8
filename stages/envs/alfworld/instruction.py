"""A task's category, read from its instruction: what an agent that is deployed can know, where the paper looks at the game's path."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

_SIGNS: tuple[tuple[str, str], ...] = (
    ("examine", r"\b(examine|look at|under|lamp|desklamp|floorlamp)\b"),
    ("puttwo", r"\btwo\b"),
    ("clean", r"\b(clean|wash|rinse)\b"),
    ("heat", r"\b(heat|hot|warm|cook)\b"),
    ("cool", r"\b(cool|cold|chill|chilled)\b"),
)


def read_category(instruction: str) -> str:
    """The category of the first sign that the instruction shows, `put` if it shows none. Exact on ALFWorld's own sentences (`heat some egg and
    put it in diningtable`, `put a hot egg in diningtable`, `put two cd in safe`, `examine the book with the desklamp`)."""
    words = instruction.lower()
    return next((category for category, sign in _SIGNS if re.search(sign, words)), "put")


def category_reader(panel_root: Path) -> Callable[[str], str]:
    """What reads a category from an instruction; nothing need be learnt from the panels."""
    return read_category
