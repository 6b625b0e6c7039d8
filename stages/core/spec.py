"""What an environment says of itself: everything that the rest of the project asks of one by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Interface:
    """How an environment is spoken to, whatever the agent.

    `setting` is the first sentence of the instructions; `actions` says what an action line holds, where that is not plain text; `state` are
    the lines in which an agent that keeps a state says it, each with its meaning (empty where the label says enough).
    """

    setting: str
    actions: str = ""
    state: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EnvSpec:
    """One environment, as `ENVIRONMENT` in `stages/envs/<name>`.

    Parts that cost an import, or that no playing stage may depend on, are named as `module:attribute`:

    - `environment`: a class with the methods of `stages.envs.base.Environment`, made with (panel folder, cache folder);
    - `settings`: the model of its section `panels.<name>` in params.yaml (`stages.core.sections.PanelSettings`);
    - `panels`: writes its panels; see `stages.panels`;
    - `categories_read`: given the panel folder, what reads a task's category from its instruction alone;
    - `demonstrations`: plays the warm-up tasks, see `stages.demos`; empty for an environment that no warm-up teaches;
    - `hint_rules`: how the hint writer `rules` reads its failures (`stages.hinting.base.HintRules`); those for any environment by default.

    `categories` are those that a panel's tasks may have (empty: any), `skills` what `warmup.withheld` may name. `same_goal` are the keys of
    `Task.spec` by which two tasks ask for the same; where a task gives another away in more ways than one, `alike` names them, each with such
    keys. `graded` rewards have values between 0 and 1, and are compared as a score. `examples`
    is the file of worked examples, `oracle` one of hints written by hand, by category (`stages.retrieval.oracle`).
    """

    name: str
    title: str
    interface: Interface
    environment: str
    settings: str
    panels: str
    categories_read: str
    same_goal: tuple[str, ...]
    skills: tuple[str, ...]
    alike: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    graded: bool = False
    demonstrations: str = ""
    hint_rules: str = "stages.hinting.general:RULES"
    examples: Path | None = None
    oracle: Path | None = None

    def asks(self, spec: Mapping[str, object]) -> dict[str, str]:
        """What a task with this spec asks for, by the ways in which tasks may be alike: equal in one of them, two tasks share that."""
        ways = self.alike or {"goal": self.same_goal}
        return {way: json.dumps([spec[key] for key in keys]) for way, keys in ways.items()}

    @property
    def shots(self) -> int:
        """Worked examples that there are for every task category."""
        if self.examples is None:
            return 0
        return min(map(len, json.loads(self.examples.read_text(encoding="utf-8")).values()))
