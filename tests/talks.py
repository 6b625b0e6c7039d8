"""Conversations held with any engine, all at once."""

from __future__ import annotations

from collections.abc import Sequence

from stages.core.records import Message
from stages.engines.base import Engine, Reply

TALKS = (("You see a box 1.", "Nothing happens.", "ok"), ("Hi.",), ("Look at the pan 2.", "The lamp 1 is on."))


def converse(engine: Engine, talks: Sequence[Sequence[str]] = TALKS) -> list[list[Reply]]:
    """All conversations at once; the replies of each, in order."""
    sessions = {engine.open(number): number for number in range(len(talks))}
    spoken = [[Message("system", "You act."), Message("user", talk[0])] for talk in talks]
    replies: list[list[Reply]] = [[] for _ in talks]
    for session, number in sessions.items():
        engine.submit(session, spoken[number])
    left = sum(map(len, talks))
    while left:
        for reply in engine.poll():
            number = sessions[reply.session]
            replies[number].append(reply)
            left -= 1
            if len(replies[number]) < len(talks[number]):
                said = talks[number][len(replies[number])]
                spoken[number] += [Message("assistant", reply.text), Message("user", said)]
                engine.submit(reply.session, spoken[number])
    return replies
