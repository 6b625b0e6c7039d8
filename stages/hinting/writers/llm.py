"""The writer `llm`: any OpenAI-compatible model reads a failure and writes its hints (arXiv 2510.01375: GPT-4o, temperature 0, 600 tokens)."""

from __future__ import annotations

from collections.abc import Sequence

from stages.core.params import Settings
from stages.engines.server import ServerEngine
from stages.hinting import answers
from stages.hinting.base import Failure, HintRules, Written
from stages.models.manifest import BASE


def write(failures: Sequence[Failure], rules: HintRules, study: Settings) -> Written:
    """The hints of the model that `hints.llm` names. Raises `EngineFault` when it cannot be asked."""
    if not failures:
        return Written([])
    llm, form = study.hints.llm, answers.schema(study.hints, failures[0].episode.env)
    engine = ServerEngine(
        llm,
        None,
        base=BASE,
        slots=llm.slots,
        context=llm.context,
        max_new_tokens=llm.max_tokens,
        temperature=llm.temperature,
        stop=(),
        schema=form,
    )
    model = engine.name.removeprefix("server:")
    identity = {"model": model, "max_tokens": llm.max_tokens, "temperature": llm.temperature, "schema": form}
    author = answers.Author("llm", model, identity, llm.window, llm.context, llm.prices)
    return answers.write(failures, study.hints, author, engine)
