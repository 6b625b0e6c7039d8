"""The episodes of all conditions on a panel, and what they come to.

They are played as one batch. Where several conditions show a task the same hints in the same order, one episode counts for all of them, so
conditions differ by their hints alone.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hint_study.conditions import BASE, Banks, Condition
from stages.agents import get
from stages.core.files import code_sha256
from stages.core.params import Cell, Settings
from stages.core.process import Fault
from stages.core.records import Episode
from stages.engines.base import Engine
from stages.envs.base import Task
from stages.envs.panel import cut, load_panel
from stages.envs.registry import category_reader, make
from stages.retrieval.retriever import Question, Retrieved, Retriever, Start
from stages.runner.episodes import play_tasks
from stages.runner.journal import Journal
from stages.runner.study import JOURNALS, PLAYING, Runner, System
from stages.stats.paired import discordant, mcnemar
from stages.stats.systems import Share, billed, by_skill, share

Found = Retrieved | Question
Plays = dict[Condition, list[Episode]]  # in the order of the panel's tasks


class PlayFault(Fault, RuntimeError):
    """Episodes that the machine broke off."""


@dataclass(frozen=True)
class Panel:
    """A panel's tasks, at most `limit` of them, each with what is known when its hints are chosen."""

    cell: Cell
    name: str
    root: Path
    sha256: str
    tasks: Sequence[Task]
    starts: Sequence[Start]


def open_panel(settings: Settings, cell: Cell, name: str, limit: int | None, data: Path) -> Panel:
    """Every game is begun once, for its first observation. Raises `PanelError`, `EnvironmentFault`."""
    root = data / "panels" / cell.env
    tasks, sha256 = load_panel(root, name)
    tasks = cut(tasks, lambda task: task.skill, limit)
    category, env = category_reader(cell.env, settings.agent.category, root), make(cell.env, root)
    starts = [Start(task.task_id, category(task), task.goal, env.reset(task).text) for task in tasks]
    return Panel(cell, name, root, sha256, tasks, starts)


def retriever(condition: Condition, banks: Banks) -> Retriever:
    """What chooses a condition's hints."""
    if condition == BASE:
        return Retriever("base", [], 0, 0)
    made = banks.of(condition)
    return Retriever("rag", made.bank, condition.k, 0, condition.way, condition.scope, made.openings)


class _Given:
    """Hints that were chosen before, by the name of the play."""

    def __init__(self, found: Mapping[str, Found]) -> None:
        self._found = found

    def retrieve(self, start: Start) -> Found:
        return self._found[start.task_id]


def play(settings: Settings, panel: Panel, conditions: Sequence[Condition], banks: Banks, engine: Engine) -> Plays:
    """All conditions' episodes. Those that were played before, by this code and with these settings, come from a journal.

    Raises `PlayFault` when the machine broke some off; the others are kept.
    """
    runner = Runner(settings, panel.cell, System("rag"))
    rules = runner.rules({panel.name: panel.sha256})
    pooled: dict[str, tuple[Task, Found]] = {}
    names: dict[Condition, list[str]] = {}
    for condition in conditions:
        choose = retriever(condition, banks).retrieve
        shown = [choose(start) for start in panel.starts]
        names[condition] = [f"{t.task_id}.{_digest(found)}" for t, found in zip(panel.tasks, shown, strict=True)]
        pooled |= dict(zip(names[condition], zip(panel.tasks, shown, strict=True), strict=True))
    print(f"{panel.cell}, {panel.name}: {sum(map(len, names.values()))} episodes, {len(pooled)} different", flush=True)
    identity = {
        "study": "hints",
        "play": asdict(rules),
        "cell": panel.cell,
        "engine": settings.engine.model_dump(),
        "agent": settings.agent.model_dump(),
    }
    tasks = [replace(task, task_id=name) for name, (task, _) in pooled.items()]
    agent = get(panel.cell.agent, panel.cell.env, settings.agent.reading)
    make_env = functools.partial(make, panel.cell.env, panel.root)
    given = _Given({name: found for name, (_, found) in pooled.items()})
    with Journal(JOURNALS, identity, code_sha256(PLAYING)) as journal:
        played = play_tasks(tasks, rules, agent, engine, make_env, runner.category, given, journal)
    broken = [e.machine_failure for e in played if e.machine_failure]
    if broken:
        raise PlayFault(
            f"{panel.cell}, {panel.name}: the machine broke off {len(broken)} of {len(played)} episodes (first: {broken[0]}); "
            "mend that and run this again, which goes on from there"
        )
    episodes = dict(zip(pooled, played, strict=True))
    return {
        condition: [
            replace(episodes[name], task_id=task.task_id, system="base" if condition == BASE else "rag")
            for name, task in zip(own, panel.tasks, strict=True)
        ]
        for condition, own in names.items()
    }


def _digest(found: Found) -> str:
    """What determines an episode of a task besides the task: the hints, or the question that is asked for them."""
    said = [m.content for m in found.messages] if isinstance(found, Question) else list(found.texts)
    return hashlib.sha256(json.dumps([isinstance(found, Question), said]).encode()).hexdigest()[:12]


def rows(plays: Plays, withheld: Sequence[str], *, graded: bool) -> list[dict[str, Any]]:
    """A row for each condition, with the paired test against no hints. `hint_tokens` are what hints add to a first prompt, in the mean;
    `tokens` what an episode is billed."""
    base = plays[BASE]
    found = []
    for condition, episodes in plays.items():
        n, whole, skills = len(episodes), share(episodes), by_skill(episodes, withheld)
        only_here, only_base = discordant([e.success for e in episodes], [e.success for e in base])
        added = [
            e.turns[0].prompt_tokens - b.turns[0].prompt_tokens
            for e, b in zip(episodes, base, strict=True)
            if e.turns and b.turns
        ]
        named = asdict(condition)
        found.append(
            {
                **{name: named[name] for name in ("writer", "share", "draw")},
                "retrieval": condition.way,
                "scope": condition.scope,
                "k": condition.k,
                "panel": episodes[0].panel,
                "n": n,
                "solved": _solved(whole),
                "success": whole["success"],
                "low": whole["success_low"],
                "high": whole["success_high"],
                **{name: {"n": part["n"], "solved": _solved(part)} for name, part in skills.items()},
                "score": 100 * (whole["reward"] or 0.0) if graded else None,
                "only_here": only_here,
                "only_base": only_base,
                "p": mcnemar(only_here, only_base),
                "tokens": sum(map(billed, episodes)) / n,
                "hint_tokens": sum(added) / len(added) if added else 0.0,
                "hints_shown": sum(len(e.hints) for e in episodes) / n,
                "fell_back": sum(bool(e.retrieve_fault) for e in episodes),
                "panel_sha256": episodes[0].panel_sha256,
                "model": episodes[0].model,
                "engine": episodes[0].engine,
            }
        )
    return found


def _solved(part: Share) -> int:
    return round(part["n"] * (part["success"] or 0.0))
