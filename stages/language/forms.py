"""Sentences with fields to fill in."""

from __future__ import annotations

from collections.abc import Sequence


def fitting(forms: Sequence[str], max_chars: int, **fields: str) -> list[str]:
    """The forms, filled in, that stay within `max_chars` characters, in their order."""
    filled = (form.format(**fields) for form in forms)
    return [text for text in filled if len(text) <= max_chars]
