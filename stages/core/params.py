"""params.yaml as typed, frozen settings.

Unknown keys and impossible values are refused, all at once, before any work starts. DVC reads the same file for its
matrices and its change detection, so a stage lists in dvc.yaml the sections that it uses here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

PARAMS = Path("params.yaml")

Env = Literal["alfworld", "webshop"]
AgentName = Literal["react", "act", "stateact"]
Arm = Literal["sft", "distilled"]
Retrieval = Literal["rag", "constant", "random"]
Panel = Literal["warmup", "train", "dev", "test"]
Measured = Literal["dev", "test", "test_seen"]
Category = Literal["put", "examine", "clean", "puttwo", "heat", "cool"]

EXAMPLES: dict[Env, int] = {"alfworld": 2, "webshop": 1}
"""Worked examples that stages/agents/examples holds for each task category."""

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


Value = TypeVar("Value")


class SettingsError(ValueError):
    """params.yaml asks for something unknown or impossible; the message lists every fault with its key."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class Cell(_Section):
    env: Env
    agent: AgentName


class Axes(_Section):
    env: Annotated[list[Env], Field(min_length=1)]
    cell: Annotated[list[Cell], Field(min_length=1)]
    arm: Annotated[list[Arm], Field(min_length=1)]
    seed: Annotated[list[Count], Field(min_length=1)]
    retrieval: Annotated[list[Retrieval], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> Axes:
        for name, values in self:
            if len(set(values)) != len(values):
                raise ValueError(f"axis {name!r} names a value twice: {values}")
        return self


def _filled(sizes: Mapping[Panel, Mapping[Any, int]]) -> None:
    for panel in get_args(Panel):
        if sum(sizes.get(panel, {}).values()) == 0:
            raise ValueError(f"panel {panel!r} is empty: give it at least one task in sizes.{panel}")


class AlfworldCounts(_Section):
    train: Count
    valid_seen: Count
    valid_unseen: Count


class OfficialAlfworld(_Section):
    data_dir: str | None
    train: Positive
    dev: Positive
    warmup: Count
    counts: AlfworldCounts | None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None


class AlfworldPanels(_Section):
    source: Literal["generated", "official"]
    seed: Count
    sizes: dict[Panel, dict[Category, Count]]
    official: OfficialAlfworld

    @model_validator(mode="after")
    def _complete(self) -> AlfworldPanels:
        if self.source == "generated":
            _filled(self.sizes)
        return self

    def games(self, panel: Panel | Measured) -> int:
        """How many games a panel has; of official ones without counts, as many as the release."""
        if self.source == "generated":
            return sum(count for name, counts in self.sizes.items() if name == panel for count in counts.values())
        counts = self.official.counts or AlfworldCounts(train=3553, valid_seen=140, valid_unseen=134)
        drawn = {"train": self.official.train, "dev": self.official.dev, "warmup": self.official.warmup}
        return {**drawn, "test": counts.valid_unseen, "test_seen": counts.valid_seen}[panel]


class WebshopPanels(_Section):
    source: Literal["generated", "official"]
    data_dir: str | None = None
    products: Count
    seed: Count
    goals: Literal["human", "synthetic"]
    view: Literal["papers", "text", "text_rich"]
    dialect: Literal["client", "text"]
    sizes: dict[Panel, dict[Literal["plain", "options"], Count]]

    @model_validator(mode="after")
    def _complete(self) -> WebshopPanels:
        _filled(self.sizes)
        if self.source == "official" and self.data_dir is None:
            raise ValueError("source 'official' needs data_dir, the folder with WebShop's items_*.json files")
        return self

    def games(self, panel: Panel | Measured) -> int:
        """How many goals a panel has."""
        return sum(count for name, counts in self.sizes.items() if name == panel for count in counts.values())


class Panels(_Section):
    alfworld: AlfworldPanels
    webshop: WebshopPanels


class Model(_Section):
    source: Annotated[str, Field(min_length=1)]
    revision: str | None = None


class Lora(_Section):
    r: Positive
    alpha: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Withheld(_Section):
    alfworld: list[Category] = []
    webshop: list[Literal["plain", "options"]] = []

    def of(self, env: str) -> list[str]:
        """The skills that no demonstration of an environment shows."""
        return list(self.model_dump()[env])


class Training(_Section):
    """What determines a training run besides its data and seed.

    The learning rate rises over the share `rise` of all steps, then falls along `schedule`. A step sees `batch_size` x `accumulation`
    examples a process. `quantize` 4bit keeps the frozen base in NF4 (QLoRA, arXiv 2305.14314). Conversations of more than `max_tokens`
    are left out, never cut.
    """

    epochs: Positive
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    schedule: Literal["cosine", "linear"]
    rise: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    batch_size: Positive
    accumulation: Positive
    max_tokens: Positive
    gradient_checkpointing: bool
    quantize: Literal["none", "4bit"]
    lora: Lora


class Warmup(Training):
    enabled: bool
    seed: Count
    cells: Annotated[list[Cell], Field(min_length=1)]
    withheld: Withheld
    strength: Literal["full"]
    hinted_share: Share
    nonce: dict[Env, Count]
    shown: dict[Env, Annotated[float, Field(gt=0, le=1)]]
    recovery_share: Share


class Vllm(_Section):
    gpu_memory: Annotated[float, Field(gt=0, le=1)]
    tensor_parallel: Positive


class Server(_Section):
    """An OpenAI-compatible server. `model` is the name under which it serves the base model, or null where it serves just one; a student is
    asked for by the name of its folder below data/students. The key comes from the environment variable `key_variable`, never from here.
    """

    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    model: str | None
    key_variable: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    timeout: Annotated[float, Field(gt=0)]
    retries: Count


class Engine(_Section):
    kind: Literal["cpu", "vllm", "server"]
    dtype: Literal["auto", "bfloat16", "float32"]
    slots: Positive
    max_new_tokens: Positive
    context: Positive
    temperature: Annotated[float, Field(ge=0)]
    vllm: Vllm
    server: Server

    @model_validator(mode="after")
    def _room(self) -> Engine:
        if self.max_new_tokens >= self.context:
            raise ValueError(
                f"a reply of max_new_tokens {self.max_new_tokens} leaves no room in a context of {self.context}"
            )
        return self


class AgentSettings(_Section):
    """How agents are prompted, whatever their form. `shots`: worked examples in every prompt but the students'; `category`: what hints and
    examples are chosen by, the task's own (`oracle`, as in the paper) or read from its instruction (`inferred`, as a deployed agent must);
    `corrections`: times in a row that an unreadable reply is answered with a request for another, before it is played as it is."""

    shots: dict[Env, Count]
    category: Literal["oracle", "inferred"]
    corrections: Annotated[int, Field(ge=0, le=1)]

    @model_validator(mode="after")
    def _written(self) -> AgentSettings:
        for env, number in self.shots.items():
            if number > EXAMPLES[env]:
                raise ValueError(f"{number} worked examples asked for on {env}, where {EXAMPLES[env]} are written")
        return self


class Ray(_Section):
    workers: Positive


class Runner(_Section):
    """`executor` says where episodes are played: in the stage's own process, or by `ray.workers` actors of a Ray cluster."""

    max_turns: dict[Env, Positive]
    max_repeats: Annotated[int, Field(ge=2)]
    executor: Literal["local", "ray"]
    ray: Ray


class Launch(_Section):
    """How the students' training is started: `processes` processes under `accelerate launch`, whose own settings (those of its config file,
    for FSDP or DeepSpeed) stand in `accelerate`."""

    processes: Positive
    accelerate: dict[str, Any]


class Hints(_Section):
    writer: Literal["feedback"]
    probe_steps: Count
    per_failure: dict[Env, Positive]
    sees_parts: bool
    max_chars: Annotated[int, Field(ge=40, le=240)]
    merge_ratio: Share
    k: Positive


class Lessons(_Section):
    max_refused: dict[Env, Count]
    ngram: Annotated[int, Field(ge=2)]


class Evaluate(_Section):
    panels: Annotated[list[Measured], Field(min_length=1)]

    def of(self, env: str) -> list[Measured]:
        """The panels measured in an environment: WebShop's test goals are all of one kind, it has no `test_seen`."""
        return [panel for panel in self.panels if panel != "test_seen" or env == "alfworld"]


class Stats(_Section):
    bootstrap: Annotated[int, Field(ge=100)]
    seed: Count


class Settings(_Section):
    """All of params.yaml."""

    axes: Axes
    panels: Panels
    model: Model
    warmup: Warmup
    agent: AgentSettings
    engine: Engine
    runner: Runner
    hints: Hints
    lessons: Lessons
    students: dict[Env, Training]
    launch: Launch
    evaluate: Evaluate
    stats: Stats

    @model_validator(mode="after")
    def _cells(self) -> Settings:
        for cell in [*self.axes.cell, *self.warmup.cells]:
            if cell.env not in self.axes.env:
                raise ValueError(f"axes.env lacks {cell.env}, which a cell of axes.cell or warmup.cells names")
        for cell in self.axes.cell if self.warmup.enabled else []:
            if cell not in self.warmup.cells:
                raise ValueError(
                    f"warmup.cells lacks {cell.agent} on {cell.env}: the model would not know that agent's format; add the cell"
                )
        return self

    @model_validator(mode="after")
    def _nothing_withheld_is_shown(self) -> Settings:
        for env, number in self.agent.shots.items():
            if number and self.warmup.enabled and self.warmup.withheld.of(env):
                raise ValueError(
                    f"agent.shots shows examples of what warmup.withheld withholds on {env}; set one of them to nothing"
                )
        return self

    @model_validator(mode="after")
    def _panels_there_are(self) -> Settings:
        official = self.panels.alfworld.source == "official"
        if "test_seen" in self.evaluate.panels and not official:
            raise ValueError("evaluate.panels names test_seen, which only panels.alfworld.source 'official' has")
        for env in dict.fromkeys(cell.env for cell in self.axes.cell):
            if not self.evaluate.of(env):
                raise ValueError(f"evaluate.panels names no panel of {env}: {self.evaluate.panels}")
        warmed = self.warmup.enabled and any(cell.env == "alfworld" for cell in self.warmup.cells)
        if official and warmed and not self.panels.alfworld.official.warmup:
            raise ValueError(
                "warmup.enabled with panels.alfworld.source 'official' needs a warm-up panel: give "
                "panels.alfworld.official.warmup a number of games, or set warmup.enabled to false"
            )
        return self

    @model_validator(mode="after")
    def _by_env(self) -> Settings:
        by_env: dict[str, Mapping[Env, Any]] = {
            "runner.max_turns": self.runner.max_turns,
            "hints.per_failure": self.hints.per_failure,
            "lessons.max_refused": self.lessons.max_refused,
            "warmup.nonce": self.warmup.nonce,
            "warmup.shown": self.warmup.shown,
            "agent.shots": self.agent.shots,
            "students": self.students,
        }
        for key, values in by_env.items():
            missing = [env for env in self.axes.env if env not in values]
            if missing:
                raise ValueError(f"{key} says nothing of {', '.join(missing)}, which axes.env names")
        return self


def of_env(values: Mapping[Env, Value], env: str) -> Value:
    """One environment's value of a setting that is kept by environment."""
    return {str(name): value for name, value in values.items()}[env]


def parse(values: dict[str, Any], where: str) -> Settings:
    """Settings from plain values. Raises `SettingsError` with every fault, a line each."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        faults = [f"  {_fault('.'.join(map(str, e['loc'])), e['msg'], e['input'])}" for e in error.errors()]
        raise SettingsError(f"{where}: {len(faults)} unusable setting(s)\n" + "\n".join(faults)) from None


def _fault(key: str, message: str, found: object) -> str:
    """A fault in one line; those of settings that don't fit together name them, and need no copy of all settings."""
    return f"{key}: {message}, found {found!r}" if key else f"(top): {message}"


def load(path: Path = PARAMS) -> Settings:
    """Read params.yaml. Raises `SettingsError` when it is missing, no YAML, or holds unusable settings."""
    if not path.is_file():
        raise SettingsError(f"{path}: no such file; run from the project's root")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected sections such as axes and panels, found {type(values).__name__}")
    return parse(values, str(path))
