"""What the episode browser is given: episodes of a panel side by side, as plain values, and packed into a script.

A page that was opened from a disk may load a script, but may not read a file: so each set of episodes is a script that
hands over compact JSON, gzip'ed and base64'd. The same episodes give the same bytes.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages import agents
from stages.core import plugins
from stages.core.records import FAULTS, STOPS, BankEntry, Episode, Turn
from stages.core.text import visible
from stages.stats.systems import billed

MOST_TASKS = 600  # of a set; a larger panel's first ones, so that the report stays small


@dataclass(frozen=True)
class Column:
    """One player of a set: the key that addresses name it by, its name for people, its episodes."""

    key: str
    name: str
    episodes: Sequence[Episode]


def episode_set(columns: Sequence[Column], withheld: Sequence[str], bank: Sequence[BankEntry]) -> dict[str, Any]:
    """Tasks in the panel's order and, aligned to them, each column's episodes; null where a column has none.

    `left_out` counts the tasks beyond `MOST_TASKS`.
    """
    tasks: dict[str, Episode] = {}
    for episode in (e for column in columns for e in column.episodes):
        if (
            episode.task_id not in tasks or not tasks[episode.task_id].opening
        ):  # one that the machine broke off may have none
            tasks[episode.task_id] = episode
    failures = {entry.entry_id: entry.failures for entry in bank}
    shown = list(tasks)[:MOST_TASKS]
    return {
        "tasks": [_task(tasks[name], withheld) for name in shown],
        "columns": [
            {"key": column.key, "name": column.name, "episodes": _aligned(column.episodes, shown, failures)}
            for column in columns
        ],
        "left_out": len(tasks) - len(shown),
    }


def packed(name: str, content: Mapping[str, Any]) -> str:
    """The script that hands `content` to the page under `name`."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    data = base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode()
    return f'receiveEpisodes({json.dumps(name)},"{data}");\n'


def _task(of: Episode, withheld: Sequence[str]) -> dict[str, Any]:
    return {
        "id": visible(of.task_id),
        "category": visible(of.category),
        "skill": "withheld" if of.skill in withheld else "known",
        "goal": visible(of.goal),
        "opening": visible(of.opening.strip()),
    }


def _aligned(
    episodes: Sequence[Episode], tasks: Sequence[str], failures: Mapping[str, int]
) -> list[dict[str, Any] | None]:
    by_task = {e.task_id: e for e in episodes}
    return [_episode(by_task[name], failures) if name in by_task else None for name in tasks]


def _episode(of: Episode, failures: Mapping[str, int]) -> dict[str, Any]:
    """One episode. `outcome` is solved, failed or machine; of each hint: the bank entry's id, text, failures it came from."""
    broken = of.stop == "machine"
    return {
        "id": of.episode_id,
        "outcome": "machine" if broken else "solved" if of.success else "failed",
        "reward": round(of.reward, 4),
        "tokens": billed(of),
        "stop": visible(of.machine_failure) if broken else STOPS.get(of.stop, of.stop),
        "hints": [
            [name, visible(text), failures.get(name, 0)] for name, text in zip(of.hint_ids, of.hints, strict=True)
        ],
        "turns": [_turn(turn, of) for turn in of.turns],
    }


def _turn(turn: Turn, of: Episode) -> dict[str, Any]:
    """One turn; what does not apply is left out. `said` are the lines of agents that keep a state."""
    notes = [f"no action: {FAULTS.get(turn.fault, turn.fault)}"] if turn.fault else []
    notes += ["the reply was cut at its token limit"] if turn.finish == "length" else []
    notes += [f"the first {turn.elided} turns were left out of the prompt"] if turn.elided else []
    found = {
        "said": [[visible(name), visible(text)] for name, text in _state(turn, of).items()],
        "thought": visible(turn.thought),
        "action": visible(turn.action),
        "seen": visible(turn.observation.strip()),
        "refused": 0 if turn.valid else 1,
        "notes": notes,
    }
    return {key: value for key, value in found.items() if value}


def _state(turn: Turn, of: Episode) -> Mapping[str, str]:
    """What the reply's other lines say, if the agent that wrote it is still there to read them."""
    known = of.agent in plugins.names("agents") and of.env in plugins.names("envs")
    return agents.get(of.agent, of.env).parse(turn.reply).state if known else {}
