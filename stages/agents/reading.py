"""How a reply is read: its action, and what its labelled lines say before it.

`strict` reads lines that begin with a label as the agent writes it. `loose` also reads what instruct models make of them, where it can mean
one thing only: labels in bold, in a list or in other case, an action in bold or as code, and all labels in one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Literal

Reading = Literal["loose", "strict"]

LABEL = re.compile(r"[A-Z][a-z]+")
_ACTION = re.compile(r"^[^\S\n]*Action:", re.M)
_LABELLED = re.compile(rf"^[^\S\n]*(?P<lead>)(?P<label>{LABEL.pattern}):", re.M)
_WRAPS = ("**", "__", "`", "*", "_")


def read(text: str, labels: Iterable[str], reading: Reading) -> tuple[str, dict[str, str]] | None:
    """The action and what each of `labels` says before it; None where no action is found. The first `Action:` line counts, up to its end; a
    label's text runs to the next one, so that it may have several lines."""
    known = tuple(labels)
    action = _ACTION.search(text)
    if reading == "strict":
        return (_line(text, action.end()).strip(), _said(text[: action.start()], _LABELLED, known)) if action else None
    lines, places = _patterns(known)
    found = (
        # A line in the agent's own form goes before any other.
        lines.match(text, action.start())
        if action
        else next((mark for mark in lines.finditer(text) if mark["label"].lower() == "action"), None)
    )
    if found:
        return _bare(_line(text, found.end()), found["lead"]), _said(text[: found.start()], lines, known)
    return _in_a_line(text, known, places)


def _in_a_line(text: str, known: tuple[str, ...], places: re.Pattern[str]) -> tuple[str, dict[str, str]] | None:
    """A reply whose labels stand in the midst of a line. Which action is meant must be plain: no label comes twice before it, nor a second action
    right after it."""
    marks = list(places.finditer(text))
    number = next((n for n, mark in enumerate(marks) if mark["label"] == "Action"), None)
    if number is None:
        return None
    action, before, after = marks[number], [mark["label"] for mark in marks[:number]], marks[number + 1 :]
    if len(set(before)) < len(before) or (after and after[0]["label"] == "Action"):
        return None
    line = _line(text[: after[0].start()] if after else text, action.end())
    return _bare(line, action["lead"]), _said(text[: action.start()], places, known)


@cache
def _patterns(known: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Labels as instruct models write them: at the beginning of a line, and anywhere."""
    labels, marks = "|".join([*known, "Action", "Observation"]), "[*_`]{0,3}"
    line = rf"^[^\S\n]*(?:[>#•-]+[^\S\n]*)?(?P<lead>{marks})(?P<label>(?i:{labels})){marks}[^\S\n]*:{marks}"
    return re.compile(line, re.M), re.compile(rf"(?<!\w)(?P<lead>{marks})(?P<label>{labels}){marks}:{marks}")


def _said(text: str, pattern: re.Pattern[str], known: tuple[str, ...]) -> dict[str, str]:
    names = {name.lower(): name for name in known}
    marks = [mark for mark in pattern.finditer(text) if mark["label"].lower() in names]
    ends = [*(mark.start() for mark in marks), len(text)][1:]
    wraps = () if pattern is _LABELLED else _WRAPS
    return {
        names[mark["label"].lower()]: _bare(text[mark.end() : end], mark["lead"], wraps)
        for mark, end in zip(marks, ends, strict=True)
    }


def _line(text: str, start: int) -> str:
    """What follows in the same line."""
    return text[start:].partition("\n")[0]


def _bare(text: str, lead: str, wraps: tuple[str, ...] = _WRAPS) -> str:
    """Text without the marks around it; `lead` are those that its label began with, which may end behind it."""
    text = text.strip()
    for wrap in wraps:
        inner = text.removeprefix(wrap).removesuffix(wrap)
        if text == f"{wrap}{inner}{wrap}" and inner and wrap not in inner:
            return inner.strip()
    return text.removesuffix(lead).strip()
