"""params.yaml as typed, frozen settings.

Unknown keys and impossible values are refused, all at once, before any work starts. DVC reads the same file for its
matrices and its change detection, so a stage lists in dvc.yaml the sections that it uses here. What an environment has settings of its own
for (`panels.<name>`) it describes itself: see `stages.core.spec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, create_model, model_validator

from stages.core import plugins
from stages.core.arms import ARMS, Retrieval, base_cell, teachers
from stages.core.plugins import PluginError
from stages.core.process import Fault
from stages.core.sections import (
    AgentSettings,
    Before,
    Count,
    Evaluate,
    Lessons,
    Llm,
    Model,
    Panels,
    Positive,
    Runner,
    Section,
    Server,
    Share,
    Stats,
    Students,
    Track,
    Training,
    settings_of,
)

PARAMS = Path("params.yaml")

Way = Literal["rank", "bm25", "dense", "llm"]
Scope = Literal["category", "bank"]


class SettingsError(Fault, ValueError):
    """params.yaml asks for something unknown or impossible; the message lists every fault with its key."""


class Cell(str):
    """An environment with an agent, `<env>_<agent>`: what is studied. Stages and folders are named by it."""

    @property
    def env(self) -> str:
        return self.rpartition("_")[0]

    @property
    def agent(self) -> str:
        return self.rpartition("_")[2]


def _cell(name: str) -> Cell:
    cell = Cell(name)
    if not cell.env:
        raise PluginError(f"a cell is <environment>_<agent>, such as alfworld_react, and no {name!r}")
    plugins.environment(cell.env)
    plugins.find("agents", cell.agent, "AGENT")
    return cell


CellName = Annotated[str, AfterValidator(_cell)]


def _writer(name: str) -> str:
    if not callable(plugins.find("hinting/writers", name, "write")):
        raise PluginError(f"stages/hinting/writers/{name}.py: write is no function")
    return name


def _arm(name: str) -> str:
    if name not in ARMS:
        raise ValueError(f"Input should be one of {', '.join(map(repr, ARMS))}")
    return name


ArmName = Annotated[str, AfterValidator(_arm)]


class Axes(Section):
    """DVC's matrices. `teacher` are the ways in which the arms' teachers choose hints, `aided` the arms whose students are measured with hints too."""

    cell: Annotated[list[CellName], Field(min_length=1)]
    arm: Annotated[list[ArmName], Field(min_length=1)]
    seed: Annotated[list[Count], Field(min_length=1)]
    teacher: list[Retrieval]
    retrieval: Annotated[list[Retrieval], Field(min_length=1)]
    aided: list[ArmName]

    @model_validator(mode="after")
    def _distinct(self) -> Axes:
        for name, values in self:
            if len(set(values)) != len(values):
                raise ValueError(f"axis {name!r} names a value twice: {values}")
        return self

    @model_validator(mode="after")
    def _taught(self) -> Axes:
        needed = teachers(self.arm)
        if set(needed) != set(self.teacher):
            raise ValueError(
                f"teacher is [{', '.join(self.teacher)}], and the arms {', '.join(self.arm)} need [{', '.join(needed)}]: "
                "set it to that (rag always, as the funnel counts it)"
            )
        for arm in self.aided:
            if arm not in self.arm:
                raise ValueError(f"aided names {arm!r}, and no student of it is trained: add it to axes.arm")
            if ARMS[arm].hinted:
                raise ValueError(f"aided names {arm!r}, whose students are shown hints anyway: take it out")
        return self

    @property
    def cells(self) -> list[Cell]:
        return [Cell(name) for name in self.cell]

    @property
    def envs(self) -> list[str]:
        """The environments of all cells, each once."""
        return list(dict.fromkeys(cell.env for cell in self.cells))


class Warmup(Training):
    enabled: bool
    seed: Count
    cells: Annotated[list[CellName], Field(min_length=1)]
    withheld: dict[str, list[str]]
    strength: Literal["full"]
    hinted_share: Share
    nonce: dict[str, Count]
    writing: dict[str, Count]
    subsample: dict[str, Annotated[float, Field(gt=0, le=1)]]
    recovery_share: Share

    @model_validator(mode="after")
    def _skills(self) -> Warmup:
        for env, withheld in self.withheld.items():
            known = plugins.environment(env).skills
            unknown = [skill for skill in withheld if skill not in known]
            if unknown:
                raise ValueError(f"withheld.{env} names {unknown[0]!r}; the skills of {env} are {', '.join(known)}")
        return self

    def agents(self, env: str) -> list[str]:
        """The agents that are warmed up in an environment."""
        return [cell.agent for cell in map(Cell, self.cells) if cell.env == env]

    def hidden(self, env: str) -> list[str]:
        """The skills of an environment that no demonstration shows; none where there is no warm-up."""
        return list(self.withheld.get(env, ())) if self.enabled else []


class Vllm(Section):
    gpu_memory: Annotated[float, Field(gt=0, le=1)]
    tensor_parallel: Positive


class Engine(Section):
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


class Launch(Section):
    """How the students' training is started: `processes` processes under `accelerate launch`, whose own settings (those of its config file,
    for FSDP or DeepSpeed) stand in `accelerate`."""

    processes: Positive
    accelerate: dict[str, Any]


class Hints(Section):
    """`evidence` is what a writer is given beside a failure: what a probe of `probe_steps` found, a success of the same category. `llm` is asked by
    the writer of that name; its `temperature` and `max_tokens` hold for the writer `self` too, which is shown `self_turns` turns of a trace, or all."""

    writer: Annotated[str, AfterValidator(_writer)]
    evidence: list[Literal["probe", "contrast"]]
    llm: Llm
    self_turns: dict[Annotated[str, AfterValidator(lambda env: plugins.environment(env).name)], Positive]
    probe_steps: Count
    per_failure: dict[str, Positive]
    sees_parts: bool
    max_chars: Annotated[int, Field(ge=40, le=240)]
    merge_ratio: Share
    curated: Annotated[str, Field(min_length=1)]
    k: Positive
    retrieval: Way
    scope: Scope

    @property
    def probing(self) -> int:
        """Environment steps that a probe may take; 0 where none is made."""
        return self.probe_steps if "probe" in self.evidence else 0


class Settings(Section):
    """All of params.yaml. `limit` is how many tasks of a panel are kept at most, its kinds in equal parts."""

    axes: Axes
    panels: Panels
    limit: dict[str, Positive | None]
    model: Model
    before: Before | None
    warmup: Warmup
    agent: AgentSettings
    engine: Engine
    runner: Runner
    hints: Hints
    lessons: Lessons
    students: dict[str, Students]
    launch: Launch
    evaluate: Evaluate
    stats: Stats
    track: Track

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as plain values: `parse` makes its class anew in every process."""
        return parse, (self.model_dump(), str(PARAMS))

    def cell(self, name: str) -> Cell:
        """The cell of that name. Raises `PluginError` for one that cannot be, `SettingsError` for one that is not studied."""
        cell = _cell(name)
        if name not in self.axes.cell:
            raise SettingsError(f"axes.cell in {PARAMS} has no {name!r}, only {', '.join(self.axes.cell)}")
        return cell

    def measured(self, env: str) -> list[str]:
        """The panels of an environment that systems are measured on."""
        return [panel for panel in self.evaluate.panels if panel in self.panels[env].measured]

    def size(self, env: str, panel: str) -> int:
        """How many tasks of a panel are played."""
        size, limit = self.panels[env].size(panel), self.limit.get(panel)
        return size if limit is None else min(size, limit)

    @model_validator(mode="after")
    def _warmed_up(self) -> Settings:
        if not self.warmup.enabled:
            return self
        for cell in self.axes.cells:
            if cell not in self.warmup.cells:
                raise ValueError(
                    f"warmup.cells lacks {cell}: the model would not know that agent's format; add the cell"
                )
        for cell in map(Cell, self.warmup.cells):
            if not plugins.environment(cell.env).demonstrations:
                raise ValueError(
                    f"warmup.cells names {cell}, and {cell.env} has no demonstrations: see docs/extending.md"
                )
            if cell.env in self.panels.envs and not self.panels[cell.env].size("warmup"):
                raise ValueError(
                    f"warmup.enabled needs warm-up tasks of {cell.env}: give panels.{cell.env} some, or set warmup.enabled to false"
                )
        return self

    @model_validator(mode="after")
    def _next_round(self) -> Settings:
        if self.before and (student := self.before.student):
            if self.axes.cell != [cell := base_cell(student)]:
                raise ValueError(f"before has {student}: axes.cell must be its cell alone, and is {self.axes.cell}")
            if self.agent.shots.get(Cell(cell).env):
                raise ValueError(f"before: {student} learnt without worked examples; agent.shots must be 0 there")
        return self

    @model_validator(mode="after")
    def _oracles(self) -> Settings:
        for env in self.axes.envs if "oracle" in self.axes.retrieval else ():
            if plugins.environment(env).oracle is None:
                raise ValueError(
                    f"axes.retrieval names oracle, and {env} has no hints written by hand: write some (EnvSpec.oracle), or take it out"
                )
        return self

    @model_validator(mode="after")
    def _shots(self) -> Settings:
        for env, number in self.agent.shots.items():
            written = plugins.environment(env).shots
            if number > written:
                raise ValueError(f"agent.shots asks for {number} worked examples on {env}, where {written} are written")
            if number and self.warmup.hidden(env):
                raise ValueError(
                    f"agent.shots shows examples of what warmup.withheld withholds on {env}; set one of them to nothing"
                )
        return self

    @model_validator(mode="after")
    def _measured_panels_there_are(self) -> Settings:
        envs = [env for env in self.axes.envs if env in self.panels.envs]
        there = {panel for env in envs for panel in self.panels[env].measured}
        for panel in self.evaluate.panels:
            if panel not in there:
                raise ValueError(f"evaluate.panels names {panel!r}; the cells have {', '.join(sorted(there))}")
        for panel in self.limit:
            if panel not in there | {"train"}:
                raise ValueError(f"limit names {panel!r}; there are train, {', '.join(sorted(there))}")
        for env in envs:
            if not self.measured(env):
                raise ValueError(f"evaluate.panels names no panel of {env}: {self.evaluate.panels}")
        return self

    @model_validator(mode="after")
    def _by_env(self) -> Settings:
        taught = ("nonce", "subsample", "writing")
        warmed: dict[str, Mapping[str, Any]] = {f"warmup.{key}": getattr(self.warmup, key) for key in taught}
        by_env: dict[str, Mapping[str, Any]] = {
            "panels": self.panels.model_dump(),
            "runner.max_turns": self.runner.max_turns,
            "hints.per_failure": self.hints.per_failure,
            "lessons.max_refused": self.lessons.max_refused,
            "agent.shots": self.agent.shots,
            "students": self.students,
            **(warmed if self.warmup.enabled else {}),
        }
        for key, values in by_env.items():
            where, cells = ("warmup.cells", self.warmup.cells) if key in warmed else ("axes.cell", self.axes.cell)
            unknown = [env for env in values if env not in plugins.names("envs")]
            if unknown:
                raise ValueError(f"{key} names {unknown[0]}, which is no environment in stages/envs")
            missing = [env for env in dict.fromkeys(Cell(name).env for name in cells) if env not in values]
            if missing:
                raise ValueError(f"{key} says nothing of {', '.join(missing)}, which {where} names")
        return self


def _model(values: dict[str, Any]) -> type[Settings]:
    """`Settings` with a section below `panels` for each environment that the values name there."""
    sections = values.get("panels")
    return _with(tuple(env for env in plugins.names("envs") if isinstance(sections, dict) and env in sections))


@cache
def _with(envs: tuple[str, ...]) -> type[Settings]:
    models: dict[str, Any] = {env: (settings_of(env), ...) for env in envs}
    panels = create_model("Panels", __base__=Panels, **models)
    return create_model("Settings", __base__=Settings, panels=(panels, ...))


def parse(values: dict[str, Any], where: str) -> Settings:
    """Settings from plain values. Raises `SettingsError` with every fault, a line each."""
    try:
        return _model(values).model_validate(values)
    except PluginError as error:
        raise SettingsError(f"{where}: {error}") from error
    except ValidationError as error:
        faults = [f"  {_fault('.'.join(map(str, e['loc'])), e['msg'], e['type'], e['input'])}" for e in error.errors()]
        raise SettingsError(f"{where}: {len(faults)} unusable setting(s)\n" + "\n".join(faults)) from None


def _fault(key: str, message: str, kind: str, found: object) -> str:
    """A fault in one line; what is missing, or does not fit together, needs no copy of the section around it."""
    shown = "" if kind == "missing" or (kind == "value_error" and isinstance(found, dict)) else f", found {found!r}"
    return f"{key or '(top)'}: {message.removeprefix('Value error, ')}{shown}"


def flat(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Nested settings, a dotted key a value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{where}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return found


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
