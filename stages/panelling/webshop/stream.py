"""A long JSON list, one element at a time. The dialect is that of Python's `json`, as upstream reads it: NaN is a number."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

_CHUNK = 1 << 24  # bytes; an element is shorter
_SPACE = " \t\r\n"


def elements(file: BinaryIO, seen: Callable[[bytes], object]) -> Iterator[Any]:
    """The elements of the list that a file holds; `seen` gets its bytes, all of them once the last element is out.

    Raises ValueError, saying after how many elements, where the file is no list in JSON or ends too early.
    """
    decoder, utf8 = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")()
    text, place, count, begun, more = "", 0, 0, False, True
    while True:
        place = _skip(text, place, _SPACE)
        try:
            if not begun:
                place, begun = _take(text, place, "["), True
            elif text[place : place + 1] == "]":
                break
            else:
                start = _skip(text, _take(text, place, ",") if count else place, _SPACE)
                value, place = decoder.raw_decode(text, start)
                yield value
                count += 1
        except ValueError as error:
            if not more or len(text) - place > _CHUNK:
                raise ValueError(f"after {count} rows: {'the file ends too early' if not more else error}") from None
            chunk = file.read(_CHUNK)
            seen(chunk)
            more = bool(chunk)
            text, place = text[place:] + utf8.decode(chunk, final=not more), 0
    if text[place + 1 :].strip(_SPACE) or (rest := file.read()).strip():
        raise ValueError(f"after {count} rows: the list ends, the file does not")
    seen(rest)


def _skip(text: str, place: int, what: str) -> int:
    while text[place : place + 1] in what and place < len(text):
        place += 1
    return place


def _take(text: str, place: int, what: str) -> int:
    if text[place : place + 1] != what:
        raise ValueError(f"{what!r} expected, {text[place : place + 20]!r} found")
    return place + 1
