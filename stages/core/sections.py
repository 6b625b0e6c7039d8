"""What sections of params.yaml are made of: the one that every environment describes itself, and those of the agents and of a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from stages.core import plugins
from stages.core.plugins import PluginError
from stages.core.process import Fault

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Level = Literal["ok", "note", "fault"]


class Section(BaseModel):
    """Settings that belong together: frozen, and nothing unknown among them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class Model(Section):
    """Where the pretrained model comes from, and the arguments of its chat template (the `chat_template_kwargs` of servers)."""

    source: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    template: dict[str, JsonValue] = {}


class AgentSettings(Section):
    """How agents are prompted and read, whatever their form. `shots`: worked examples in every prompt but the students'; `category`: what hints
    and examples are chosen by, the task's own (`oracle`, as in the paper) or read from its instruction (`inferred`, as a deployed agent must);
    `reading`: whether only the agent's own form is read (`strict`) or also what departs from it and can mean one thing only (`loose`);
    `corrections`: times in a row that an unreadable reply is answered with a request for another, before it is played as it is."""

    shots: dict[str, Count]
    category: Literal["oracle", "inferred"]
    reading: Literal["loose", "strict"]
    corrections: Annotated[int, Field(ge=0, le=1)]


class Server(Section):
    """An OpenAI-compatible server. `model` is the name under which it serves the base model, or null where it serves just one; `student` is the
    form of a student's: `{name}` stands for its folder below data/students, `{base}` for the base model's name. The key comes from the environment
    variable `key_variable`, never from here.
    """

    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    model: str | None
    student: Annotated[str, Field(pattern=r"^([^{}]|\{base\})*\{name\}([^{}]|\{base\})*$")]
    key_variable: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    timeout: Annotated[float, Field(gt=0)]
    retries: Count


class PanelSettings(Section):
    """An environment's section below `panels`: where its tasks come from. Every environment extends it."""

    source: str

    @property
    def measured(self) -> tuple[str, ...]:
        """The panels that systems are measured on."""
        return ("dev", "test")

    def size(self, panel: str) -> int:
        """How many tasks a panel has; `warmup` are those that demonstrations are made of, 0 where there are none."""
        raise NotImplementedError

    def inspect(self) -> list[tuple[Level, str]]:
        """What the doctor says of the data that these settings need."""
        return [("ok", f"tasks are {self.source}")]


class Panels(Section):
    """The environments' sections, by their names."""

    def __getitem__(self, env: str) -> PanelSettings:
        found: PanelSettings | None = getattr(self, env, None)
        if found is None:
            raise Fault(f"params.yaml has no section panels.{env}, only {', '.join(self.envs)}")
        return found

    @property
    def envs(self) -> list[str]:
        return list(type(self).model_fields)


def filled(sizes: Mapping[Any, Mapping[Any, int]]) -> None:
    """Raise ValueError when a panel that is played has no task."""
    for panel in ("train", "dev", "test"):
        if sum(sizes.get(panel, {}).values()) == 0:
            raise ValueError(f"panel {panel!r} is empty: give it at least one task in sizes.{panel}")


def settings_of(env: str) -> type[PanelSettings]:
    """The model of an environment's own settings. Raises `PluginError` for what is none."""
    reference = plugins.environment(env).settings
    model = plugins.resolve(reference)
    if not (isinstance(model, type) and issubclass(model, PanelSettings)) or model.size is PanelSettings.size:
        raise PluginError(f"{reference}: expected a PanelSettings with a method size, found {model!r:.80}")
    return model
