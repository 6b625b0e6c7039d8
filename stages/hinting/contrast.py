"""What stands beside a failure: the probe of its task, and a success of the same category."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from rapidfuzz import fuzz

from stages.core.records import Episode
from stages.hinting.base import Failure, ProbeRecord


def beside(
    failed: Sequence[Episode], probes: Mapping[str, ProbeRecord], episodes: Sequence[Episode], evidence: Collection[str]
) -> Iterator[Failure]:
    """Each failure with what `hints.evidence` names, as far as there is any. `probes` are by episode, `episodes` all of the same plays."""
    won = [e for e in episodes if e.success] if "contrast" in evidence else []
    for episode in failed:
        yield Failure(episode, probes.get(episode.episode_id), nearest(episode, won))


def nearest(episode: Episode, won: Sequence[Episode]) -> Episode | None:
    """Of the successes of an episode's category the one whose goal is worded most like its own, the shortest of several; None without any."""
    same = [e for e in won if e.category == episode.category]
    return max(same, key=lambda e: (fuzz.ratio(e.goal, episode.goal), -e.steps, e.task_id), default=None)
