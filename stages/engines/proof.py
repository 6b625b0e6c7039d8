"""Whether a student is what plays, and not its base in its place: servers answer to names that they do not know, or know and do not apply.

Both are asked the same, the base twice: its own two answers tell how much is rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LEAST = 0.01  # nats; a trained adapter moves some token by far more


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
