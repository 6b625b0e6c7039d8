"""Think blocks: what a reasoning model writes for itself before it says something. A block is part of the reply, as it stands in records, and
none of what the agent says. `stages.models.thoughts` puts the marks of all families of models into these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

THOUGHT = ("<think>", "</think>")
_MARK = re.compile("|".join(THOUGHT))


def spans(reply: str) -> list[tuple[int, int]]:
    """Where a reply is said aloud, as [start, end): outside of its think blocks. A block that is never closed runs to the end; one that is only
    closed began in the prompt, as some templates have it, and with it all before."""
    found: list[tuple[int, int]] = []
    start, inside = 0, False
    for mark in _MARK.finditer(reply):
        if mark[0] == THOUGHT[0]:
            if not inside:
                found.append((start, mark.start()))
            inside = True
            continue
        if not inside:
            found.clear()
        inside, start = False, mark.end()
    return found if inside else [*found, (start, len(reply))]


def aloud(reply: str) -> str:
    """What a reply says outside of its think blocks."""
    return "".join(reply[start:end] for start, end in spans(reply))


def end(reply: str, stops: Sequence[str]) -> int | None:
    """Where a stop string ends a reply, None where none does. Stop strings begin what follows an action: one in a think block, or before
    anything is said, ends nothing."""
    if not stops:
        return None
    said, pattern = False, re.compile("|".join(map(re.escape, stops)))
    for start, stretch in spans(reply):
        for stop in pattern.finditer(reply, start, stretch):
            if said or reply[start : stop.start()].strip():
                return stop.start()
        said = said or bool(reply[start:stretch].strip())
    return None
