"""What an environment is to the rest of the project: frozen tasks in, text observations out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from stages.core.process import Fault


class EnvironmentFault(Fault, RuntimeError):
    """The environment itself failed (a game that does not load, an engine that died): never the agent's failure."""


@dataclass(frozen=True)
class Task:
    """One row of a frozen panel: all that fixes a task.

    `spec` holds what the environment needs to start it (ALFWorld: the game file, relative to the panel's folder, and
    its sha256); `category` is the paper's task category (ALFWorld: clean, cool, examine, heat, put, puttwo; WebShop: the
    department).
    """

    task_id: str
    env: str
    panel: str
    category: str
    goal: str
    spec: dict[str, Any]

    @property
    def skill(self) -> str:
        """What the task calls for, in the words of `warmup.withheld` (ALFWorld: its category; WebShop: `options` when the goal
        wants one chosen, else `plain`)."""
        return str(self.spec.get("wants", self.category))


@dataclass(frozen=True)
class Observation:
    """What the environment shows after a reset or a step.

    `valid` is False when the environment refused the action (ALFWorld: "Nothing happens."); `reward` lies in [0, 1] and
    counts when `done`; `parts` is what it is made of, where the environment can tell (WebShop: attributes met and wanted, and so
    on).
    """

    text: str
    admissible: tuple[str, ...]
    reward: float
    done: bool
    valid: bool
    parts: Mapping[str, float] = field(default_factory=dict)


class Environment(Protocol):
    """One place in a pool: plays one task after the other. Raises `EnvironmentFault` for failures of its own."""

    def reset(self, task: Task) -> Observation: ...

    def step(self, action: str) -> Observation: ...
