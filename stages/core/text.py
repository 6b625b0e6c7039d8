"""Text that models and sites wrote, made fit to be shown: it may hold anything."""

from __future__ import annotations


def visible(text: str) -> str:
    """The text with a replacement character in place of each one that would steer a terminal or a page; line breaks stay."""
    return "".join(c if c == "\n" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
