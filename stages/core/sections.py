"""What sections of params.yaml are made of: the one that every environment describes itself, those of agents, servers, lessons, training, play and
metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from stages.core import plugins
from stages.core.plugins import PluginError
from stages.core.process import Fault

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Divergence = Literal["reverse", "forward"]
Level = Literal["ok", "note", "fault"]


class Section(BaseModel):
    """Settings that belong together: frozen, and nothing unknown among them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class Model(Section):
    """Where the pretrained model comes from, and the arguments of its chat template (the `chat_template_kwargs` of servers)."""

    source: Annotated[str, Field(min_length=1)]
    revision: str | None = None
    template: dict[str, JsonValue] = {}


class Before(Section):
    """The round before: the student that this round's base is, by its folder in data/students, at a `commit` of this project (an experiment's, too)."""

    commit: Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
    student: str


class AgentSettings(Section):
    """How agents are prompted and read, whatever their form. `shots`: worked examples in every prompt but the students'; `category`: what hints
    and examples are chosen by, the task's own (`oracle`, as in the paper) or read from its instruction (`inferred`, as a deployed agent must);
    `reading`: whether only the agent's own form is read (`strict`) or also what departs from it and can mean one thing only (`loose`);
    `corrections`: times in a row that an unreadable reply is answered with a request for another, before it is played as it is."""

    shots: dict[str, Count]
    category: Literal["oracle", "inferred"]
    reading: Literal["loose", "strict"]
    corrections: Annotated[int, Field(ge=0, le=1)]


class Connection(Section):
    """An OpenAI-compatible server. `model` is a model's name there, or null where it serves just one. The key comes from the environment variable
    `key_variable`, never from here. `place` and `window` are where these settings, and that of the window in tokens, stand in params.yaml.
    """

    place: ClassVar[str]
    window: ClassVar[str]

    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    model: str | None
    key_variable: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]
    timeout: Annotated[float, Field(gt=0)]
    retries: Count


class Server(Connection):
    """A server that plays. `model` is the base model's name, `student` the form of a student's: `{name}` stands for its folder below
    data/students, `{base}` for the base model's name."""

    place = "engine.server"
    window = "engine.context"

    student: Annotated[str, Field(pattern=r"^([^{}]|\{base\})*\{name\}([^{}]|\{base\})*$")]


class Prices(Section):
    """Dollars a million tokens, of prompts and of replies."""

    prompt: Annotated[float, Field(ge=0)]
    reply: Annotated[float, Field(ge=0)]


class Llm(Connection):
    """A model that writes hints. `slots` is how many requests are under way at once, `context` its window and `max_tokens` the most that an answer
    has, in tokens. `prices` is null where nothing is paid for."""

    place = "hints.llm"
    window = "hints.llm.context"

    slots: Positive
    context: Positive
    max_tokens: Positive
    temperature: Annotated[float, Field(ge=0)]
    prices: Prices | None

    @model_validator(mode="after")
    def _room(self) -> Llm:
        if self.max_tokens >= self.context:
            raise ValueError(f"an answer of max_tokens {self.max_tokens} leaves no room in a context of {self.context}")
        return self


class Lessons(Section):
    """`shared_goals` says what becomes of lessons whose task asks for what a measured one asks for (`EnvSpec.asks`).

    `known` sets how many of the base agent's own successes at skills that it knows are mixed into a teacher's lessons, as a share of these;
    `match` cuts all arms to the smallest one's number of lessons or of trained tokens. `seed` draws what is mixed in, and what is cut.
    """

    max_refused: dict[str, Count]
    ngram: Annotated[int, Field(ge=2)]
    shared_goals: Literal["drop", "keep"]
    known: Share
    match: Literal["lessons", "tokens"] | None
    seed: Count


class Lora(Section):
    r: Annotated[int, Field(gt=0, le=512)]  # vLLM has room for no more
    alpha: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Training(Section):
    """What determines a training run besides its data and seed.

    The learning rate rises over the share `warmup_ratio` of all steps, then falls along `schedule`. A step sees `batch_size` x `accumulation`
    examples a process. `quantize` 4bit keeps the frozen base in NF4 (QLoRA, arXiv 2305.14314). Conversations of more than `max_tokens`
    are left out, never cut.
    """

    epochs: Positive
    learning_rate: Rate
    schedule: Literal["cosine", "linear"]
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    batch_size: Positive
    accumulation: Positive
    max_tokens: Positive
    gradient_checkpointing: bool
    quantize: Literal["none", "4bit"]
    lora: Lora


class OnPolicy(Section):
    """What is other where a student learns, on the base's own replies, how the base with hints would have chosen their tokens.

    A trained token counts with its `divergence` in nats (see `stages.training.loss.diverge`), and with `kl_clip` at most; null: whatever it is.
    """

    epochs: Positive
    learning_rate: Rate
    divergence: Divergence
    kl_clip: Annotated[float, Field(gt=0)] | None


class Students(Training):
    """How an environment's students are trained; `on_policy` goes before it in the arm of that name."""

    on_policy: OnPolicy

    def distilling(self) -> Training:
        """The recipe of the arm `on_policy`."""
        return self.model_copy(update={"epochs": self.on_policy.epochs, "learning_rate": self.on_policy.learning_rate})


class Ray(Section):
    workers: Positive


class Runner(Section):
    """`executor` says where episodes are played: in the stage's own process, or by `ray.workers` actors of a Ray cluster."""

    max_turns: dict[str, Positive]
    max_repeats: Annotated[int, Field(ge=2)]
    executor: Literal["local", "ray"]
    ray: Ray


class Evaluate(Section):
    panels: Annotated[list[str], Field(min_length=1)]


class Stats(Section):
    bootstrap: Annotated[int, Field(ge=100)]
    seed: Count


class Track(Section):
    """`traces` is how many episodes of a system become MLflow traces."""

    traces: Count


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
