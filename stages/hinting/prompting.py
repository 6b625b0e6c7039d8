"""What a model is told of a failure: the files of `prompts/`, filled in with the episode's own record and with what the environment says of itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

from stages.core import plugins
from stages.core.params import Hints
from stages.core.records import STOPS, Episode, Message, Turn
from stages.hinting.base import Failure, ProbeRecord

PROMPTS = Path(__file__).with_name("prompts")
_LONGEST = 1200  # characters of one thought or observation; a model that babbles repeats itself


def version() -> str:
    """Digest of the prompts' files, as it stands in records."""
    digest = hashlib.sha256()
    for path in sorted(PROMPTS.glob("*.md")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def prompt(failure: Failure, settings: Hints, turns: int) -> list[Message]:
    """The conversation that asks for a failure's hints; of each trace at most `turns` turns are shown, its first and its last ones."""
    episode = failure.episode
    spec = plugins.environment(episode.env)
    most = settings.per_failure[episode.env]
    told = _filled(
        "instructions",
        title=spec.title,
        setting=spec.interface.setting,
        actions=f"An action is {spec.interface.actions}." if spec.interface.actions else "",
        max_chars=settings.max_chars,
        number="one hint" if most == 1 else f"1 to {most} hints",
    )
    beside = ""
    if failure.probe is not None:
        beside += _filled("probe", trials=_trials(failure.probe))
    if failure.success is not None:
        beside += _filled("contrast", goal=failure.success.goal, trace=_trace(failure.success, turns))
    asked = _filled(
        "failure",
        category=episode.category,
        goal=episode.goal,
        forms="\n".join(f"- {action}" for action in _forms(episode)),
        trace=_trace(episode, turns),
        end=_end(episode, settings.sees_parts),
        beside=beside,
    )
    return [Message("system", told), Message("user", asked)]


def answer(texts: Sequence[str]) -> str:
    """Hints in the form that the prompt asks for."""
    return json.dumps({"hints": list(texts)}, ensure_ascii=False)


def repair(fault: str) -> Message:
    """What is said to a model whose answer cannot be read."""
    return Message("user", _filled("repair", fault=fault))


def basis(failures: Sequence[Failure], settings: Hints, turns: int) -> str:
    """What a model that is shown at most `turns` turns of a trace was told of these failures, in words."""
    whole = all(len(failure.episode.turns) <= turns for failure in failures)
    said = ["its trace" if whole else f"up to {turns} turns of its trace"]
    if settings.sees_parts and any(failure.episode.parts for failure in failures):
        said.append("what the reward is made of")
    if any(failure.probe for failure in failures):
        said.append(f"what up to {settings.probing} steps of trying out found")
    if any(failure.success for failure in failures):
        said.append("a success of the same category")
    return " and ".join([", ".join(said[:-1]), said[-1]]) if len(said) > 1 else said[0]


def _filled(name: str, **fields: object) -> str:
    return Template((PROMPTS / f"{name}.md").read_text(encoding="utf-8")).substitute(fields)


def _forms(episode: Episode) -> Iterable[str]:
    """Of the actions that were offered one a first word, the first of each."""
    offered = (action for turn in episode.turns for action in turn.admissible)
    first: dict[str, str] = {}
    for action in offered:
        first.setdefault(action.partition(" ")[0].partition("[")[0], action)
    return first.values()


def _trace(episode: Episode, turns: int) -> str:
    """What was shown and done, a line or two a turn; the turns in the middle are left out where there are more than `turns`."""
    told = [_short(episode.opening), *map(_told, episode.turns)]
    left = len(episode.turns) - turns
    if left > 0:
        first = 1 + (turns + 1) // 2
        told[first : first + left] = [f"({left} turns are left out here.)"]
    return "\n".join(told)


def _told(turn: Turn) -> str:
    thought = f"(thinks: {_short(turn.thought)})\n" if turn.thought else ""
    done = turn.action or f"(a reply without a readable action: {_short(turn.reply)})"
    return f"{thought}> {done}\n{_short(turn.observation)}"


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _end(episode: Episode, sees_parts: bool) -> str:
    said = f"not solved; {STOPS[episode.stop]}."
    if episode.reward:
        said += f" Reward {episode.reward:g} of 1."
    if sees_parts and episode.parts:
        said += " The reward's parts: " + ", ".join(f"{part.name} {part.value:g}" for part in episode.parts) + "."
    return said


def _trials(probe: ProbeRecord) -> str:
    lines = [
        f"- '{trial.action}' at {trial.place}: {_short(trial.observation)} "
        + ("With this step the task was solved." if trial.success else "The task was not solved by it.")
        for trial in probe.trials
    ]
    return "\n".join(lines) or "Nothing came of it."
