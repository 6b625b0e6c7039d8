"""Whether a student is what plays, and not its base in its place: servers answer to names that they do not know, or know and do not apply.

A server is asked the same of both, and of the base twice, whose own two answers tell how much is rounding. An engine in process says how likely it
finds a prompt's tokens, with the adapter and without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.core.records import Message
from stages.engines.base import EngineFault

_LEAST = 0.01  # nats; a trained adapter moves some token by far more, and rounding by less

PROMPT = (
    Message("system", "You act in a household."),
    Message("user", "You are in the middle of a room. Looking around you, you see a box 1. What do you do?"),
)


@dataclass(frozen=True)
class Sample:
    """A greedy answer to the probe. `places` has for each token of the answer, as far as the engine says, that token and the log-probabilities of
    the likeliest in its place."""

    text: str
    places: Sequence[tuple[str, Mapping[str, float]]] = ()


def told_apart(base: Sample, again: Sample, student: Sample) -> bool:
    """Whether the student's answer differs from both of the base's by more than these differ from each other; by their log-probabilities, or by
    their texts where an engine gives none."""
    if base.places and again.places and student.places:
        noise = _distance(base, again)
        return min(_distance(base, student), _distance(again, student)) > 2 * noise + _LEAST
    return base.text == again.text != student.text


def _distance(one: Sample, other: Sample) -> float:
    """The most by which a token's log-probability differs, as far as both go on alike."""
    most = 0.0
    for (token, likely), (its, others) in zip(one.places, other.places, strict=False):
        most = max(most, _apart(likely, others), _apart(others, likely))
        if token != its:
            break
    return most


def _apart(likely: Mapping[str, float], others: Mapping[str, float]) -> float:
    """The most by which tokens of the first differ from the second; there, one that is not named is no likelier than the last that is."""
    last = min(others.values())
    return max(abs(value - others[token]) if token in others else value - last for token, value in likely.items())


def prove(student: str, base: Sequence[float], own: Sequence[float]) -> None:
    """Compare log-probabilities of the same tokens by the base and by the student, in nats. Raises `EngineFault` when none differs."""
    if max(abs(a - b) for a, b in zip(base, own, strict=True)) <= _LEAST:
        raise EngineFault(
            f"{student} answers as the base does, to the last of {len(base)} tokens: the engine does not apply the adapter, or the "
            "adapter is empty; run `dvc repro students`, and see that the engine is given what that writes"
        )
