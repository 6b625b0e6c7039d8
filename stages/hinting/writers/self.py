"""The writer `self`: the agent's own base model reads its failures and writes the hints, on the engine that plays."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from stages.core.params import Settings
from stages.engines.opening import open_engine
from stages.hinting import answers
from stages.hinting.base import Failure, HintRules, Written
from stages.models.manifest import BASE


def write(failures: Sequence[Failure], rules: HintRules, study: Settings) -> Written:
    """The base model's hints. Raises `EngineFault` when the engine cannot be opened or fails."""
    if not failures:
        return Written([])
    limits = {"max_new_tokens": study.hints.llm.max_tokens, "temperature": study.hints.llm.temperature}
    form = answers.schema(study.hints, failures[0].episode.env)
    engine = open_engine(study.engine.model_copy(update=limits), BASE, None, (), form)
    base = json.loads((BASE / "identity.json").read_text(encoding="utf-8"))
    model = f"{base['source']}@{base['weights_sha256'][:12]} ({engine.name})"
    identity = {"model": model, "base": base, "schema": form, **limits}
    turns = study.hints.self_turns.get(failures[0].episode.env, sys.maxsize)
    author = answers.Author("self", model, identity, "engine.context", study.engine.context, turns=turns)
    return answers.write(failures, study.hints, author, engine)
