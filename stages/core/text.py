"""Text that models and sites wrote, made fit to be shown: it may hold anything."""

from __future__ import annotations

from functools import cache
from unicodedata import category

_STEERING = {"Cc", "Cf", "Cs"}  # control, format and surrogate characters


def visible(text: str) -> str:
    """The text with a replacement character in place of each one that would steer a terminal or a page; line breaks stay, other white space
    becomes a space."""
    return "".join(map(_shown, text))


@cache
def _shown(character: str) -> str:
    if character == "\n":
        return character
    if character.isspace():
        return " "
    return "\N{REPLACEMENT CHARACTER}" if category(character) in _STEERING else character
