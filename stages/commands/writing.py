"""What the doctor finds of the model that writes hints: whether it is there, and what it will read and write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.commands.findings import Finding, key_of, reached
from stages.core.params import Cell, Settings
from stages.engines.base import EngineFault

FUNNEL = Path("metrics/funnel.json")
PAPER_FAILURES = {"alfworld": 0.33, "webshop": 0.63}
"""Share of the train tasks that the base agent fails at (arXiv 2510.01375: 320 to 470, and 730 to 770, of 1,200)."""
UNKNOWN_FAILURES = 0.5
MODELS = ("llm", "self")  # the writers that ask one


def inspect(settings: Settings) -> Iterator[Finding]:
    """The key, the address and the model of the writer `llm`."""
    llm = settings.hints.llm
    if settings.hints.writer != "llm":
        return
    yield key_of(llm, "writer's key")
    try:
        asked = reached(llm, context=llm.context, max_new_tokens=llm.max_tokens, temperature=llm.temperature)
        yield Finding("ok", "writer", f"{asked.name.removeprefix('server:')} at {llm.url}")
    except EngineFault as fault:
        yield Finding("fault", "writer", str(fault))


def estimate(settings: Settings, cell: Cell, episode_tokens: float, *, same_model: bool) -> tuple[float, str]:
    """Tokens that a model reads and writes for a cell's hints, and that in words; 0 where none writes. `episode_tokens` are those billed
    an episode: its last prompt, which has the whole trace, is at most twice its share of a turn. `same_model`: the last run's agent had this
    model, so it tells how many failures there will be."""
    hints, size = settings.hints, settings.size(cell.env, "train")
    if hints.writer not in MODELS:
        return 0.0, ""
    row = _last(cell) if same_model else None
    share = row["failures"] / row["episodes"] if row else PAPER_FAILURES.get(cell.env, UNKNOWN_FAILURES)
    failures = round(share * size)
    if row and row["tokens"]["write"] and _last_writer(cell) == hints.writer:
        each, known = row["tokens"]["write"] / row["failures"], "measured in the last run"
    else:
        trace = 2 * episode_tokens / settings.runner.max_turns[cell.env]
        each = trace * (1 + ("contrast" in hints.evidence)) + hints.llm.max_tokens
        known = "a rough figure"
    text = f"hints of about {failures:,} failures, {each:,.0f} tokens each by {hints.writer} ({known})"
    if hints.writer == "llm" and hints.llm.prices:
        reply = min(hints.llm.max_tokens, each)
        dollars = failures * ((each - reply) * hints.llm.prices.prompt + reply * hints.llm.prices.reply) / 1e6
        text += f", at most {dollars:,.2f} dollars"
    return failures * each, text


def _last_writer(cell: Cell) -> str:
    """Who wrote the cell's hints in the last run."""
    path = Path(f"data/hints/{cell}/writer.json")
    return str(json.loads(path.read_text(encoding="utf-8"))["writer"]) if path.is_file() else ""


def _last(cell: Cell) -> dict[str, Any] | None:
    """The cell's way from failures to hints, as last counted."""
    rows: list[dict[str, Any]] = json.loads(FUNNEL.read_text(encoding="utf-8"))["rows"] if FUNNEL.is_file() else []
    return next((row for row in rows if (row["env"], row["agent"]) == (cell.env, cell.agent) and row["failures"]), None)
