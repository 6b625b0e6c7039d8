"""Demonstrations of hint writing: a failure in a made-up world, told as the writer `self` is told of one, and the hints that it calls for.

The failures are those of players that do not know what only the made-up world knows. What their hints are is read by the environment's own rules
(the writer `rules`), which know no tool and no option beforehand either.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Generator, Mapping

from stages.agents.base import Agent
from stages.core.params import Hints
from stages.core.records import SCHEMA_VERSION, Demo, Episode, Message, Part, Turn
from stages.envs.base import Environment, Observation, Task
from stages.hinting.base import Failure, HintRules
from stages.hinting.prompting import answer, prompt
from stages.hinting.writers.rules import found

KIND = "writing"
Move = tuple[str, str, Mapping[str, str]]
Player = Generator[Move, Observation, None]
"""Yields a thought, an action and what it knows of itself, and is sent what came of the action; ends where it gives up."""


_TOLD = {
    "evidence": ["probe", "contrast"],
    "probe_steps": 100,
    "sees_parts": True,
    "max_chars": 120,
}
_PER_FAILURE = {"alfworld": 4, "webshop": 2}


def all_told(settings: Hints) -> Hints:
    """The settings of a writer that is given all there is and held to the paper's limits, whatever a study's own writer is: another choice there
    must not change the warm-up."""
    return settings.model_copy(update={**_TOLD, "per_failure": {**settings.per_failure, **_PER_FAILURE}})


def play(
    world: Environment, task: Task, agent: Agent, player: Callable[[str], Player], turns: int, category: str
) -> Episode | None:
    """One episode of at most `turns` turns, as the runner would record it; None where the player gives up."""
    seen = world.reset(task)
    opening, told, moves = seen.text, list[Turn](), player(seen.text)
    try:
        thought, action, state = next(moves)
        while True:
            reply, offered = agent.render(thought, action, state), list(seen.admissible)
            seen = world.step(action)
            told.append(_turn(agent, reply, offered, seen))
            if seen.done or len(told) == turns:
                break
            thought, action, state = moves.send(seen)
    except StopIteration:
        return None
    return _episode(task, agent, category, opening, told, seen)


def demo(failure: Failure, rules: HintRules, settings: Hints, seed: str) -> Demo | None:
    """How a failure's hints are written: those that say what it missed, or the first of the general ones; None where the rules find nothing."""
    episode = failure.episode
    hints = found(failure, rules, settings)
    texts = [hint.text for hint in hints if hint.rule in rules.tiers] or [hint.text for hint in hints[:1]]
    if not texts:
        return None
    turns = settings.self_turns.get(episode.env, sys.maxsize)
    messages = [*prompt(failure, settings, turns), Message("assistant", answer(texts), train=True)]
    name = hashlib.sha256(f"{seed}|{episode.episode_id}".encode()).hexdigest()[:16]
    return Demo(SCHEMA_VERSION, name, episode.task_id, episode.env, episode.agent, KIND, texts, messages)


def _turn(agent: Agent, reply: str, offered: list[str], seen: Observation) -> Turn:
    decision = agent.parse(reply)
    return Turn(
        prompt_tokens=0,
        computed_tokens=0,
        elided=0,
        reply=reply,
        reply_tokens=0,
        finish="stop",
        thought=decision.thought,
        action=decision.action,
        fault=decision.fault,
        asked_again=False,
        observation=seen.text,
        valid=seen.valid,
        admissible=offered,
    )


def _episode(task: Task, agent: Agent, category: str, opening: str, turns: list[Turn], seen: Observation) -> Episode:
    said = "|".join([task.task_id, agent.name, opening, *(turn.reply for turn in turns)])
    return Episode(
        schema_version=SCHEMA_VERSION,
        episode_id=hashlib.sha256(said.encode()).hexdigest()[:16],
        task_id=task.task_id,
        env=task.env,
        agent=agent.name,
        system="base",
        seed=0,
        panel=task.panel,
        panel_sha256="",
        category=category,
        category_used=category,
        skill=task.skill,
        goal=task.goal,
        hint_ids=[],
        hints=[],
        opening=opening,
        turns=turns,
        success=seen.done and seen.reward == 1.0,
        reward=seen.reward if seen.done else 0.0,
        parts=[Part(name, float(value)) for name, value in seen.parts.items()],
        steps=len(turns),
        refused=sum(not turn.valid for turn in turns),
        stop="done" if seen.done else "turn_limit",
        prompt_tokens=0,
        reply_tokens=0,
        computed_tokens=0,
        retrieve_tokens=0,
        model="",
        engine="",
        machine_failure="",
    )
