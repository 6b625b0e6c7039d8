"""Guesses at how replies go on."""

from __future__ import annotations

import pytest

from stages.engines import drafting
from stages.engines.drafting import CONTEXT, LONGEST, Drafter


def told(drafter: Drafter, *replies: list[int]) -> Drafter:
    for reply in replies:
        for place in range(1, len(reply)):
            drafter.learn(reply[:place], reply[place])
    return drafter


REPLY = list(range(100, 120))


def test_what_was_written_twice_is_guessed_once_its_context_is_there() -> None:
    assert told(Drafter(), REPLY).draft(REPLY[:6], 4) == []
    drafter = told(Drafter(), REPLY, REPLY)
    assert drafter.draft(REPLY[:6], 4) == REPLY[6:10]
    assert drafter.draft([7, *REPLY[1:6]], 4) == REPLY[6:10], "only the last tokens count"
    assert drafter.draft([*REPLY[: CONTEXT - 2], 7, 8], 4) == []
    assert drafter.draft(REPLY[:6], 99) == REPLY[6 : 6 + LONGEST]
    assert drafter.draft(REPLY[:6], 0) == []


def test_another_word_ends_a_guess_until_it_was_written_twice_as_well() -> None:
    other = [*REPLY[:8], 7, 9]
    drafter = told(Drafter(), REPLY, REPLY, other)
    assert drafter.draft(REPLY[:6], 4) == REPLY[6:8]
    assert told(drafter, other).draft(REPLY[:6], 4) == [*REPLY[6:8], 7, 9]


def test_the_oldest_contexts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafting, "_ENTRIES", 30)
    drafter = told(Drafter(), REPLY, REPLY)
    assert len(told(drafter, [*range(25)], [*range(25)])._followed) == 30
    assert drafter.draft(REPLY[:6], 4) == []
    assert drafter.draft([*range(10, 16)], 3) == [16, 17, 18]
