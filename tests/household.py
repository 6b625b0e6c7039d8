"""A tiny household in ALFWorld's words, with made-up tools, for tests of hints and lessons."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stages.core.records import SCHEMA_VERSION, Episode, Hint, Turn
from stages.envs.base import Observation, Task

SHA = "a" * 64


@dataclass
class Household:
    """One room. `tools` maps a verb to its place; the task wants a `thing` with `state` (a verb, or None) in
    `goal_place`, or, with `lamp`, the thing in hand when the lamp is used. `steps` counts the commands ever carried
    out."""

    holds: Mapping[str, Sequence[str]]
    thing: str = "egg"
    goal_place: str = "shelf"
    state: str | None = None
    shut: frozenset[str] = frozenset()
    tools: Mapping[str, str] = field(default_factory=dict)
    lamp: str = ""
    sentence: str = "put a egg in shelf"
    steps: int = 0

    def reset(self, task: Task) -> Observation:
        self.inside = {place: list(items) for place, items in self.holds.items()}
        self.closed = set(self.shut)
        self.at = ""
        self.hand = ""
        self.states: dict[str, str] = {}
        seen = ", ".join(f"a {place}" for place in self.holds)
        return self._show(f"You are in a room. You see {seen}.\n\nYour task is to: {self.sentence}.")

    def step(self, action: str) -> Observation:
        self.steps += 1
        if action not in self._offers():
            return self._show("Nothing happens.")
        verb, _, rest = action.partition(" ")
        if verb == "go":
            self.at = rest.removeprefix("to ")
            return self._show(f"You arrive at {self.at}. {self._look()}")
        if verb == "open":
            self.closed.remove(rest)
            return self._show(f"You open the {rest}. {self._look()}")
        if verb == "take":
            self.hand = rest.split(" from ")[0]
            self.inside[self.at].remove(self.hand)
            return self._show(f"You pick up the {self.hand}.")
        if verb == "move":
            return self._drop()
        if verb == "use":
            return self._show(f"You turn on the {rest}.", won=self.hand.startswith(f"{self.thing} "))
        self.states[self.hand] = verb
        return self._show(f"You {verb} the {self.hand}.")

    def _drop(self) -> Observation:
        item, self.hand = self.hand, ""
        self.inside[self.at].append(item)
        right = item.startswith(f"{self.thing} ") and self.at.startswith(f"{self.goal_place} ")
        won = right and not self.lamp and self.states.get(item) == self.state
        return self._show(f"You move the {item} to the {self.at}.", won)

    def _look(self) -> str:
        if self.at in self.closed:
            return f"The {self.at} is closed."
        items = ", ".join(f"a {item}" for item in self.inside[self.at]) or "nothing"
        return f"On the {self.at}, you see {items}."

    def _offers(self) -> tuple[str, ...]:
        offers = ["look", *(f"go to {place}" for place in self.holds if place != self.at)]
        if self.at in self.closed:
            offers.append(f"open {self.at}")
        elif self.at and self.hand:
            offers.append(f"move {self.hand} to {self.at}")
        elif self.at:
            offers += [f"take {item} from {self.at}" for item in self.inside[self.at] if item != self.lamp]
        if self.hand:
            offers += [f"{verb} {self.hand} with {place}" for verb, place in self.tools.items() if place == self.at]
        if self.lamp and self.at and self.lamp in self.inside[self.at]:
            offers.append(f"use {self.lamp}")
        return tuple(sorted(offers))

    def _show(self, text: str, won: bool = False) -> Observation:
        return Observation(text, self._offers(), float(won), won, text != "Nothing happens.")


def task_of(home: Household, category: str = "zap", task_id: str = "train-0", **spec: Any) -> Task:
    """The household's task as a row of the train panel."""
    keys = {"scene": 1, "task_type": category, "object": home.thing, "receptacle": home.goal_place, **spec}
    return Task(task_id, "alfworld", "train", category, home.sentence, keys)


def play(home: Household, actions: Sequence[str], **changes: Any) -> Episode:
    """The episode of an agent that gives these actions; an empty one stands for a reply without action."""
    task = task_of(home)
    seen = home.reset(task)
    opening, turns = seen.text, []
    for action in actions:
        reply = f"Think: I go on.\nAction: {action}" if action else "I do not know."
        after = home.step(action)
        fault = "" if action else "no_action"
        offered = list(seen.admissible)
        turns.append(
            Turn(9, 9, 0, reply, 3, "stop", "I go on.", action, fault, False, after.text, after.valid, offered)
        )
        seen = after
    name = hashlib.sha256("|".join(actions).encode()).hexdigest()[:16]
    episode = Episode(
        schema_version=SCHEMA_VERSION,
        episode_id=name,
        task_id=task.task_id,
        env=task.env,
        agent="react",
        system="base",
        seed=0,
        panel="train",
        panel_sha256=SHA,
        category=task.category,
        category_used=task.category,
        skill=task.skill,
        goal=task.goal,
        hint_ids=[],
        hints=[],
        opening=opening,
        turns=turns,
        success=seen.done,
        reward=seen.reward,
        parts=[],
        steps=len(turns),
        refused=sum(not turn.valid for turn in turns),
        stop="done" if seen.done else "turn_limit",
        prompt_tokens=9,
        reply_tokens=3,
        computed_tokens=9,
        retrieve_tokens=0,
        model="tiny",
        engine="none",
        machine_failure="",
    )
    return replace(episode, **changes)


def hint_of(text: str, episode_id: str = "e0", category: str = "zap", rule: str = "refused") -> Hint:
    """A hint as the writer would give it."""
    name = hashlib.sha256(f"{text}|{episode_id}|{category}".encode()).hexdigest()[:16]
    return Hint(SCHEMA_VERSION, name, "alfworld", "react", category, text, rule, "seen", episode_id, "train-0")
