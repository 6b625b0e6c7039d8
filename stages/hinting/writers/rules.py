"""The writer `rules`, the default: reads what the environment showed in a failed episode; needs no API.

It sees the episode's record and, if there is one, the probe's; never a plan, a walkthrough, a game file, or what the
warm-up withheld.
"""

from __future__ import annotations

from collections.abc import Sequence

from stages.core.params import Hints, Settings
from stages.core.records import Hint
from stages.hinting.base import Failure, HintRules, Written, hint_of


def write(failures: Sequence[Failure], rules: HintRules, study: Settings) -> Written:
    """What the environment's rules find in each failure."""
    return Written([hint for failure in failures for hint in found(failure, rules, study.hints)])


def found(failure: Failure, rules: HintRules, settings: Hints) -> list[Hint]:
    """Up to `per_failure` hints for one failure, the most specific first, each at most `max_chars` characters.

    Raises ValueError for an episode that is no failure of the agent's (a success, or a failure of the machine), and for
    a probe of another episode.
    """
    episode, probe = failure.episode, failure.probe
    if episode.success or episode.machine_failure:
        raise ValueError(f"episode {episode.episode_id} is no failure of the agent: nothing to learn from it")
    if probe is not None and probe.episode_id != episode.episode_id:
        raise ValueError(f"the probe is of episode {probe.episode_id}, not of {episode.episode_id}")
    hints: dict[str, Hint] = {}
    for rule, finding in rules.findings(episode, probe, settings):
        if len(finding.text) <= settings.max_chars:
            hints.setdefault(finding.text, hint_of(episode, rule, finding.text, finding.evidence))
    return list(hints.values())[: settings.per_failure[episode.env]]
