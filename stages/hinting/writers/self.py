"""The writer `self`: the agent's own base model reads its failures and writes the hints, on the engine that plays."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from stages.core.files import code_sha256
from stages.core.params import Settings
from stages.engines.opening import open_engine
from stages.hinting import answers
from stages.hinting.base import Failure, HintRules, Written
from stages.models.identity import base_name
from stages.models.manifest import BASE

ANSWERING = ("engines", "models")  # the code that answers depend on: none given by other code is taken from the store


def write(failures: Sequence[Failure], rules: HintRules, study: Settings) -> Written:
    """The base model's hints. Raises `EngineFault` when the engine cannot be opened or fails, `ModelError` when nothing identifies the base."""
    if not failures:
        return Written([])
    limits = {"max_new_tokens": study.hints.llm.max_tokens, "temperature": study.hints.llm.temperature}
    form = answers.schema(study.hints, failures[0].episode.env)
    engine = open_engine(study.engine.model_copy(update=limits), BASE, None, (), form)
    model = f"{base_name(BASE)} ({engine.name})"
    identity = {"model": model, "code": code_sha256(ANSWERING), "schema": form, **limits}
    turns = study.hints.self_turns.get(failures[0].episode.env, sys.maxsize)
    author = answers.Author("self", model, identity, "engine.context", study.engine.context, turns=turns)
    return answers.write(failures, study.hints, author, engine)
