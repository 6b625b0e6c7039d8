"""The default hint writer: reads what the environment showed in a failed episode; needs no API.

It sees the episode's record and, if there is one, the probe's; never a plan, a walkthrough, a game file, or what the
warm-up withheld.
"""

from __future__ import annotations

import hashlib

from stages.hinting.alfworld import rules
from stages.hinting.webshop import rules as shopping
from stages.hinting.alfworld.probe import ProbeRecord
from stages.core.records import SCHEMA_VERSION, Episode, Hint


def write_hints(
    episode: Episode, probe: ProbeRecord | None, max_chars: int, per_failure: int, sees_parts: bool = False
) -> list[Hint]:
    """Up to `per_failure` hints for one failure, the most specific first, each at most `max_chars` characters. `sees_parts`: the
    writer may read what the reward is made of, and not its sum alone.

    Raises ValueError for an episode that is no failure of the agent's (a success, or a failure of the machine), and for
    a probe of another episode.
    """
    if episode.success or episode.machine_failure:
        raise ValueError(f"episode {episode.episode_id} is no failure of the agent: nothing to learn from it")
    if probe is not None and probe.episode_id != episode.episode_id:
        raise ValueError(f"the probe is of episode {probe.episode_id}, not of {episode.episode_id}")
    if episode.env == "webshop":
        found = shopping.findings(episode, sees_parts, max_chars)
    else:
        found = rules.findings(episode, probe, max_chars)
    hints: dict[str, Hint] = {}
    for rule, finding in found:
        if len(finding.text) <= max_chars:
            hints.setdefault(finding.text, _hint(episode, rule, finding.text, finding.evidence))
    return list(hints.values())[:per_failure]


def _hint(episode: Episode, rule: str, text: str, evidence: str) -> Hint:
    name = hashlib.sha256(f"{episode.episode_id}|{rule}|{text}".encode()).hexdigest()[:16]
    return Hint(
        SCHEMA_VERSION,
        name,
        episode.env,
        episode.agent,
        episode.category,
        text,
        rule,
        evidence,
        episode.episode_id,
        episode.task_id,
    )
