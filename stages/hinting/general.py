"""Hints for an environment without rules of its own: what any failure can teach, whatever the task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from stages.core.params import Hints
from stages.core.records import Episode
from stages.hinting.base import Finding, HintRules, ProbeRecord

REFUSED = "Never repeat an action that was refused; choose one that the last observation allows."
REPEATED = "If an action changed nothing, don't do it again; try another one."
FORMAT = "End every reply with one line 'Action:' that holds one command."
HURRY = "Turns are few: take the shortest way that the task's words allow."


def findings(episode: Episode, probe: ProbeRecord | None, settings: Hints) -> Iterator[tuple[str, Finding]]:
    """What went wrong in the episode's own turns."""
    refused = [turn for turn in episode.turns if turn.action and not turn.valid]
    if refused:
        yield "refused", Finding(REFUSED, f"'{refused[0].action}': {refused[0].observation}")
    counts = Counter((turn.action, turn.observation) for turn in episode.turns if turn.valid)
    often = next((pair for pair, count in counts.items() if count > 2), None)
    if often:
        yield "repeated", Finding(REPEATED, f"'{often[0]}' {counts[often]} times: {often[1]}")
    unread = next((turn for turn in episode.turns if not turn.action), None)
    if unread:
        yield "unreadable", Finding(FORMAT, f"no action in: {unread.reply[:80]!r}")
    if episode.stop == "turn_limit":
        yield "unfinished", Finding(HURRY, f"not done in {episode.steps} turns")


RULES = HintRules(findings, {}, lambda settings: "the environment's text", deeds=frozenset({"turns", "way"}))
