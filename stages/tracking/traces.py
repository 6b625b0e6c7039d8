"""Traces: a sample of a system's evaluated episodes, each turn with its model call and its environment step.

The sample is of the same tasks for all systems of a cell: those that the base agent failed come first, task categories in turn. A task's
episodes are one session, so that systems stand side by side. No clock was kept while playing: times only put traces and spans in order.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from mlflow.entities import (
    Assessment,
    AssessmentSource,
    Feedback,
    Run,
    Span,
    SpanType,
    TraceInfo,
    TraceLocation,
    TraceState,
)
from mlflow.tracing.client import TracingClient
from mlflow.tracing.constant import SpanAttributeKey, TraceMetadataKey, TraceTagKey

from stages.agents import get
from stages.agents.shots import shots
from stages.core import plugins
from stages.core.records import Episode, read
from stages.tracking.store import Store
from stages.tracking.study import EVALS, Contender

_PREVIEW = 1000  # characters


def sample(base: Sequence[Episode], number: int) -> list[str]:
    """The ids of the tasks to show, by what the base agent made of them."""
    ranked: tuple[list[Episode], ...] = ([], [], [])  # failures, successes, and what says nothing of the agent
    for episode in base:
        ranked[2 if episode.machine_failure else episode.success].append(episode)
    return [e.task_id for rank in ranked for e in _in_turn(rank)][:number]


def episodes(contender: Contender) -> list[Episode]:
    """A system's episodes on the panel that is reported. Raises `RecordError`."""
    return read(Path(EVALS) / contender.name / f"{contender.reported['panel']}.parquet", Episode)


def write_traces(store: Store, run: Run, played: Sequence[Episode], examples: int) -> None:
    """Each episode as a trace of the run; the first one is the newest, so that lists begin with it. `examples` is how many worked ones its
    prompts had."""
    client = TracingClient(store.uri)
    spans: list[Span] = []
    for number, episode in enumerate(played):
        trace = _Trace(run, episode, run.info.start_time + len(played) - number, examples)
        client.start_trace(trace.info(store.experiment_id))
        spans += trace.spans()
    if spans:
        client.log_spans(store.experiment_id, spans)


def _in_turn(found: Sequence[Episode]) -> Iterator[Episode]:
    """One of each category, then the next of each."""
    by_category: dict[str, list[Episode]] = defaultdict(list)
    for episode in found:
        by_category[episode.category].append(episode)
    return (e for e in chain.from_iterable(zip_longest(*by_category.values())) if e is not None)


def _base64(hexadecimal: str) -> str:
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


class _Trace:
    """An episode as MLflow's entities; `time` is when it begins, in milliseconds."""

    def __init__(self, run: Run, episode: Episode, time: int, examples: int) -> None:
        self.run, self.episode, self.time, self.examples = run, episode, time, examples
        self.id = hashlib.sha256(f"{run.info.run_id}|{episode.episode_id}".encode()).hexdigest()[:32]
        self.turns = episode.turns

    def info(self, experiment_id: str) -> TraceInfo:
        """What stands in lists: who played what, what it took, how it ended."""
        e = self.episode
        usage = {"input_tokens": e.prompt_tokens + e.retrieve_tokens, "output_tokens": e.reply_tokens}
        usage["total_tokens"] = sum(usage.values())
        return TraceInfo(
            trace_id=f"tr-{self.id}",
            trace_location=TraceLocation.from_experiment_id(experiment_id),
            request_time=self.time,
            state=TraceState.ERROR if e.machine_failure else TraceState.OK,
            request_preview=e.goal[:_PREVIEW],
            response_preview=self._outcome()[:_PREVIEW],
            trace_metadata={
                TraceMetadataKey.SOURCE_RUN: self.run.info.run_id,
                TraceMetadataKey.TRACE_SESSION: e.task_id[:250],
                TraceMetadataKey.TOKEN_USAGE: json.dumps(usage),
            },
            tags={
                TraceTagKey.TRACE_NAME: self.run.info.run_name,
                **{"system": e.system, "seed": str(e.seed), "category": e.category, "skill": e.skill, "stop": e.stop},
                **{"episode": e.episode_id, "task": e.task_id},
            },
            assessments=[] if e.machine_failure else self._assessments(),
        )

    def spans(self) -> list[Span]:
        """The episode, in it the turns, in each the model's call and the environment's step."""
        e = self.episode
        examples = shots(plugins.environment(e.env).examples, e.category_used, self.examples) if self.examples else ()
        opening = get(e.agent, e.env).prompt(e.opening, e.hints, examples).messages()
        asked = [{"role": m.role, "content": m.content} for m in opening]
        attributes = {"hints": e.hints, "goal": e.goal, "stop": e.stop, "steps": e.steps, "refused actions": e.refused}
        found = [
            self._span(
                *("", "episode", SpanType.AGENT, 0, 3 * len(self.turns) + 1),
                {"messages": asked},
                {"messages": [{"role": "assistant", "content": self._outcome()}]},
                {**attributes, SpanAttributeKey.MODEL: e.model},
            )
        ]
        for number, turn in enumerate(self.turns, 1):
            place, name = 3 * number - 2, f"turn {number}"
            usage = {"input_tokens": turn.prompt_tokens, "output_tokens": turn.reply_tokens}
            usage["total_tokens"] = sum(usage.values())
            call = {SpanAttributeKey.CHAT_USAGE: usage, "computed_tokens": turn.computed_tokens, "finish": turn.finish}
            call |= {"turns left out": turn.elided} if turn.elided else {}
            reply = {"role": "assistant", "content": turn.reply}
            step = {"valid": turn.valid, "admissible": turn.admissible, "fault": turn.fault}
            seen = {"observation": turn.observation}
            found.append(self._span("episode", name, SpanType.CHAIN, place, 3, {"action": turn.action}, seen, {}))
            found.append(
                self._span(
                    name,
                    f"model {number}",
                    SpanType.CHAT_MODEL,
                    place,
                    1,
                    {"messages": asked},
                    {"messages": [reply]},
                    call,
                )
            )
            if not turn.asked_again:
                found.append(
                    self._span(
                        name, f"environment {number}", SpanType.TOOL, place + 1, 1, {"action": turn.action}, seen, step
                    )
                )
            asked = [{"role": "user", "content": turn.observation}]
        return found

    def _span(
        self,
        parent: str,
        name: str,
        kind: str,
        place: int,
        length: int,
        inputs: Any,
        outputs: Any,
        attributes: dict[str, Any],
    ) -> Span:
        begins = self.time * 1_000_000 + place
        own = {
            SpanAttributeKey.REQUEST_ID: f"tr-{self.id}",
            SpanAttributeKey.SPAN_TYPE: kind,
            SpanAttributeKey.INPUTS: inputs,
            SpanAttributeKey.OUTPUTS: outputs,
            **attributes,
        }
        failed = bool(self.episode.machine_failure) and not parent
        return Span.from_dict(
            {
                "name": name,
                "trace_id": _base64(self.id),
                "span_id": self._span_id(name),
                "parent_span_id": self._span_id(parent) if parent else "",
                "start_time_unix_nano": begins,
                "end_time_unix_nano": begins + length,
                "status": {
                    "code": "STATUS_CODE_ERROR" if failed else "STATUS_CODE_OK",
                    "message": self.episode.machine_failure,
                },
                "attributes": {key: json.dumps(value, ensure_ascii=False) for key, value in own.items()},
            }
        )

    def _span_id(self, name: str) -> str:
        return _base64(hashlib.sha256(f"{self.id}|{name}".encode()).hexdigest()[:16])

    def _outcome(self) -> str:
        e = self.episode
        if e.machine_failure:
            return f"{e.system}: the machine failed: {e.machine_failure}"
        return (
            f"{e.system}: {'solved' if e.success else 'failed'} after {e.steps} steps, reward {e.reward:.2f} ({e.stop})"
        )

    def _assessments(self) -> list[Assessment]:
        source = AssessmentSource(source_type="CODE", source_id=f"{self.episode.env} environment")
        values = {"success": self.episode.success, "reward": self.episode.reward}
        return [
            Feedback(name=name, value=value, source=source, create_time_ms=self.time, last_update_time_ms=self.time)
            for name, value in values.items()
        ]
