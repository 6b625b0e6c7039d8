"""One record type an artifact, kept as Parquet through polars.

Every type is a frozen dataclass whose fields are its columns; nested dataclasses become structs. `write` replaces a file
in one move, `read` refuses a file of another schema. A change of meaning is a change of `SCHEMA_VERSION`.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import polars as pl

from stages.core.files import atomic
from stages.core.process import Fault

SCHEMA_VERSION = 1

T = TypeVar("T")

FAULTS = {
    "no_action": "no line that begins with Action:",
    "empty_action": "the action is empty",
    "long_action": "the action is too long",
    "control_characters": "there are control characters in the action",
}
"""Why no action could be read in a reply, in words."""

STOPS = {
    "done": "the environment ended it",
    "turn_limit": "no turns were left",
    "repeated": "the same reply came too often",
    "context": "the prompt outgrew the model's window",
    "machine": "the machine failed, which is no evidence about the agent",
}
"""How an episode ended, in words."""

REJECTIONS = {
    "unreadable": "the answer holds no hints in the form asked for",
    "cut": "the answer was cut at its token limit",
    "none": "the answer has no hint",
    "empty": "no words",
    "long": "too long",
    "script": "letters of a script that the environment does not use",
    "particular": "a number, id or thing of the episode's own",
    "measured": "a name that only tasks of a measured panel have",
    "copied": "words of the task or of a page, copied",
    "idle": "names no action of the environment",
    "repeated": "said before of the same failure",
    "surplus": "more hints than a failure may have",
    "contradiction": "the bank says the opposite more often",
}
"""Why a hint was not taken into the bank, or an answer had none, in words."""


class RecordError(Fault, ValueError):
    """A file does not hold what its name promises: says which file, what was expected, what was found."""


@dataclass(frozen=True)
class Message:
    """One chat message. `train` marks an assistant message that carries loss; it is False for every other role."""

    role: str
    content: str
    train: bool = False


@dataclass(frozen=True)
class Turn:
    """One decision: what was offered, what the agent replied, what came of it.

    `prompt_tokens` is the whole prompt, as an API bills it; `computed_tokens` what the engine really encoded of it
    (prefix reuse deducted); `elided` counts the first turns of the episode that were left out of it, to fit the window. `finish` is
    `stop`, or `length` when the token limit cut the reply. `action` is empty when the reply could not be read, and `fault` says why (see
    `agents.base.Decision`). Such a reply is played as an empty command, unless `asked_again`: then `observation` is the request for
    another reply, and nothing was played. `valid` is False when the environment refused the action, or nothing was played. `admissible`
    lists what was offered before the action.
    """

    prompt_tokens: int
    computed_tokens: int
    elided: int
    reply: str
    reply_tokens: int
    finish: str
    thought: str
    action: str
    fault: str
    asked_again: bool
    observation: str
    valid: bool
    admissible: list[str]


@dataclass(frozen=True)
class Part:
    """One of the figures that a reward is made of, as the environment names it."""

    name: str
    value: float


@dataclass(frozen=True)
class Episode:
    """One task played once by one system.

    `stop` is `done`, `turn_limit`, `repeated` (the same reply too often), `context` (the prompt outgrew the model's
    window) or `machine` (then `machine_failure` says what broke, and the episode is no evidence about the agent).
    `category_used` is what hints and examples were chosen by: the task's `category`, or what was read from its instruction. `hint_ids` are bank entries, in the order shown; `opening` is the first observation. Token counts are sums over the turns;
    `computed_tokens` has what was encoded and the replies; `retrieve_tokens` is what the choice of hints cost, `retrieve_fault` why the
    model's own choice could not be read, so that hints were taken by rank. `skill` is what the
    task calls for, in the words of `warmup.withheld`; `parts` is what the reward is made of, empty where the environment does not say.
    """

    schema_version: int
    episode_id: str
    task_id: str
    env: str
    agent: str
    system: str
    seed: int
    panel: str
    panel_sha256: str
    category: str
    category_used: str
    skill: str
    goal: str
    hint_ids: list[str]
    hints: list[str]
    opening: str
    turns: list[Turn]
    success: bool
    reward: float
    parts: list[Part]
    steps: int
    refused: int
    stop: str
    prompt_tokens: int
    reply_tokens: int
    computed_tokens: int
    retrieve_tokens: int
    model: str
    engine: str
    machine_failure: str
    retrieve_fault: str = ""


HINT_WRITING = "hint_writing"
"""The table of demonstrations of hint writing, beside those of agents (an agent's name has no underscore)."""


@dataclass(frozen=True)
class Demo:
    """One warm-up demonstration. `kind` is the task category, `nonce` for a made-up tool, or `writing`: then `hints` are what is written, and
    `agent` is whose failure is read."""

    schema_version: int
    demo_id: str
    task_id: str
    env: str
    agent: str
    kind: str
    hints: list[str]
    messages: list[Message]


@dataclass(frozen=True)
class Hint:
    """One lesson drawn from one failed episode; `rule` names the writer's rule, `evidence` quotes what it saw."""

    schema_version: int
    hint_id: str
    env: str
    agent: str
    category: str
    text: str
    rule: str
    evidence: str
    episode_id: str
    task_id: str


@dataclass(frozen=True)
class Answer:
    """What a model wrote about one failure. `prompt` is the version of the prompts, `elided` how many turns in the middle of each trace were left out
    to fit the window, `contrast` the success that stood beside the failure (its episode's id, or empty), `calls` how often the model was asked.
    `outcome` is `hints` or why there are none (`REJECTIONS`), `reply` the last answer. Tokens and `dollars` (0 without prices) are sums over the calls;
    answers that were at hand from an earlier run count as they did then.
    """

    schema_version: int
    episode_id: str
    task_id: str
    env: str
    agent: str
    category: str
    writer: str
    model: str
    prompt: str
    probed: bool
    contrast: str
    elided: int
    calls: int
    outcome: str
    reply: str
    prompt_tokens: int
    reply_tokens: int
    dollars: float


@dataclass(frozen=True)
class Rejection:
    """A hint that was not taken, or an answer without any: `reason` is one of `REJECTIONS`, `detail` what it rests on."""

    schema_version: int
    env: str
    agent: str
    category: str
    text: str
    rule: str
    reason: str
    detail: str
    episode_id: str
    task_id: str


@dataclass(frozen=True)
class Opening:
    """What a train task says at its start: retrieval compares a task with these."""

    schema_version: int
    task_id: str
    goal: str
    opening: str


@dataclass(frozen=True)
class BankEntry:
    """Near-identical hints of a category, merged: `text` is the most frequent wording, `rank` starts at 1. `origin` is `curated` where a person
    added or rewrote it (an added one stands for no hint: `count` is 0), `oracle` where it is of no bank that hints were written for
    (`stages.retrieval.oracle`), else `written`."""

    schema_version: int
    entry_id: str
    env: str
    agent: str
    category: str
    text: str
    count: int
    rank: int
    hint_ids: list[str]
    episode_ids: list[str]
    origin: str = "written"

    @property
    def failures(self) -> int:
        """How many failed episodes it came from."""
        return len(set(self.episode_ids))


@dataclass(frozen=True)
class Lesson:
    """One training example: an episode's conversation without hints. `hint_ids` are the bank entries taken out of it, or that stand in it (arm
    `hinted`); `hinted` is the same conversation with the task's hints, where these are distilled on the agent's own replies (arm `on_policy`),
    else empty."""

    schema_version: int
    lesson_id: str
    arm: str
    env: str
    agent: str
    category: str
    episode_id: str
    task_id: str
    hint_ids: list[str]
    tokens: int
    trained_tokens: int
    messages: list[Message]
    hinted: list[Message] = field(default_factory=list)


_SCALARS: dict[Any, Any] = {int: pl.Int64, float: pl.Float64, str: pl.String, bool: pl.Boolean}


def _dtype(hint: Any) -> Any:
    if get_origin(hint) is list:
        return pl.List(_dtype(get_args(hint)[0]))
    if dataclasses.is_dataclass(hint):
        return pl.Struct(schema(typing.cast(type, hint)))
    return _SCALARS[hint]


def schema(kind: type) -> dict[str, Any]:
    """Columns of a record type as polars dtypes, in the order of its fields."""
    hints = typing.get_type_hints(kind)
    return {f.name: _dtype(hints[f.name]) for f in dataclasses.fields(kind)}


def _build(hint: Any, value: Any) -> Any:
    if get_origin(hint) is list:
        return [_build(get_args(hint)[0], v) for v in value]
    if dataclasses.is_dataclass(hint) and not isinstance(hint, type(None)):
        hints = typing.get_type_hints(hint)
        return typing.cast(type, hint)(**{k: _build(hints[k], v) for k, v in value.items()})
    return value


def to_frame(kind: type[T], rows: Iterable[T]) -> pl.DataFrame:
    """Records as a frame, a row each."""
    return pl.DataFrame([dataclasses.asdict(typing.cast(Any, r)) for r in rows], schema=schema(kind), orient="row")


def from_json(kind: type[T], value: dict[str, Any]) -> T:
    """One record from the plain values `dataclasses.asdict` gave."""
    return typing.cast(T, _build(kind, value))


def write(path: Path, kind: type[T], rows: Iterable[T]) -> None:
    """Write records to a Parquet file, all or nothing."""
    frame = to_frame(kind, rows)
    with atomic(path) as temporary:
        frame.write_parquet(temporary, compression="zstd", statistics=False)


def scan(path: Path, kind: type[T]) -> pl.LazyFrame:
    """A file of records, unread. Raises `RecordError` when it is missing, unreadable or of other columns."""
    if not path.is_file():
        raise RecordError(f"{path}: no such file; run `dvc repro` (or `dvc checkout`) to make it")
    try:
        frame = pl.scan_parquet(path)
        found = dict(frame.collect_schema())
    except Exception as error:
        raise _unreadable(path, error) from error
    expected = schema(kind)
    if found != expected:
        odd = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise RecordError(
            f"{path}: not a table of {kind.__name__} records; columns that differ: {odd}; run `dvc repro` to make it anew"
        )
    return frame


def read(path: Path, kind: type[T]) -> list[T]:
    """Read records back. Raises `RecordError` when the file is missing, unreadable or of another schema."""
    lazy = scan(path, kind)
    try:
        frame = lazy.collect()
    except Exception as error:
        raise _unreadable(path, error) from error
    versions = set(frame["schema_version"].to_list()) - {SCHEMA_VERSION}
    if versions:
        raise RecordError(
            f"{path}: schema_version {sorted(versions)} found, {SCHEMA_VERSION} expected; rerun the stage"
        )
    return [from_json(kind, row) for row in frame.iter_rows(named=True)]


def _unreadable(path: Path, error: Exception) -> RecordError:
    return RecordError(f"{path}: not a readable Parquet file ({error}); delete it and run `dvc repro`")
