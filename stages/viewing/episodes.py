"""Finds recorded episodes and hints: by an id or its beginning, or by who played what. Tables are scanned, not read whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from stages.core.process import Fault
from stages.core.records import BankEntry, Episode, Hint, from_json, read, scan

DATA = Path("data")
PLACES = ("rollouts/*/episodes.parquet", "teacher/*/*/episodes.parquet", "evals/*/*.parquet")
_NAMED = 8  # candidates named in a message

T = TypeVar("T")


class NotFound(Fault, LookupError):
    """What was asked for isn't there, or is several things: says what there is, or what to do."""


@dataclass(frozen=True)
class Query:
    """Which episodes; None is any. `task` is an id, or a place in its panel from 0; `failures` leaves successes out."""

    env: str | None = None
    agent: str | None = None
    system: str | None = None
    seed: int | None = None
    panel: str | None = None
    task: str | None = None
    failures: bool = False

    def __str__(self) -> str:
        named = [f"{f.name} {value}" for f in fields(self) if (value := getattr(self, f.name)) not in (None, False)]
        return ", ".join(named) or "any"

    def filters(self) -> list[pl.Expr]:
        """What holds for the rows of `recorded()` that are asked for."""
        wanted = {name: getattr(self, name) for name in ("env", "agent", "system", "seed", "panel")}
        found = [pl.col(name) == value for name, value in wanted.items() if value is not None]
        if self.task is not None:
            by_place = self.task.isdecimal()
            found.append(pl.col("place") == int(self.task) if by_place else pl.col("task_id") == self.task)
        return [*found, ~pl.col("success")] if self.failures else found


def recorded() -> pl.LazyFrame:
    """All recorded episodes, unread, with the `file` of each and its `place` there, which is the task's place in its panel.

    Raises `NotFound` when there are none, `RecordError` for a file that holds something else.
    """
    files = sorted(path for pattern in PLACES for path in DATA.glob(pattern))
    if not files:
        raise NotFound(f"no episodes are recorded in {DATA.absolute()}; run `dvc repro` first")
    named = [scan(p, Episode).with_row_index("place").with_columns(pl.lit(str(p)).alias("file")) for p in files]
    return pl.concat(named)


def matching(query: Query) -> pl.DataFrame:
    """What `Query` asks for: a row an episode, without its turns. Raises `NotFound` when nothing does."""
    columns = ("episode_id", "env", "agent", "system", "seed", "panel", "task_id", "success", "reward", "steps", "stop")
    billed = pl.col("prompt_tokens") + pl.col("reply_tokens") + pl.col("retrieve_tokens")
    found = recorded().filter(*query.filters()).select(*columns, "file", billed.alias("tokens")).collect()
    if found.is_empty():
        raise NotFound(f"no recorded episode matches: {query}; `python -m stages show --list` lists all")
    return found


def find(query: Query) -> Episode:
    """The one episode that is asked for. Raises `NotFound` when none or several are."""
    return _load(_only(matching(query).to_dicts(), f"episodes match: {query}"))


def find_id(beginning: str) -> Episode:
    """The episode whose id begins so. Raises `NotFound` when none or several do."""
    found = recorded().filter(pl.col("episode_id").str.starts_with(beginning))
    rows = found.select("episode_id", "system", "seed", "panel", "task_id", "file").collect().to_dicts()
    if not rows:
        raise NotFound(f"no recorded episode's id begins with {beginning!r}; `python -m stages show --list` lists all")
    exact = [row for row in rows if row["episode_id"] == beginning]
    return _load(_only(exact or rows, f"episodes' ids begin with {beginning!r}"))


def failures_behind(env: str, agent: str) -> Mapping[str, int]:
    """How many failed episodes each bank entry came from, by its id; empty where there is no bank."""
    path = _hints(env, agent) / "bank.parquet"
    entries = read(path, BankEntry) if path.is_file() else []
    return {entry.entry_id: entry.failures for entry in entries}


def find_hint(beginning: str) -> tuple[BankEntry, list[Hint]]:
    """The bank entry whose id begins so, or that merged the hint whose id does, with all hints it merged.

    Raises `NotFound` when none or several do.
    """
    banks = sorted(DATA.glob("hints/*/bank.parquet"))
    if not banks:
        raise NotFound(f"no hints are in {DATA.absolute()}; run `dvc repro` first")
    entries = [entry for path in banks for entry in read(path, BankEntry)]
    found = [e for e in entries if any(name.startswith(beginning) for name in (e.entry_id, *e.hint_ids))]
    if not found:
        raise NotFound(f"no bank entry's or hint's id begins with {beginning!r}; a hinted episode shows its hints' ids")
    if len(found) > 1:
        raise NotFound(f"{len(found)} entries' or hints' ids begin with {beginning!r}; give more of the id")
    [entry] = found
    hints = read(_hints(entry.env, entry.agent) / "hints.parquet", Hint)
    return entry, [hint for hint in hints if hint.hint_id in entry.hint_ids]


def _hints(env: str, agent: str) -> Path:
    return DATA / "hints" / f"{env}_{agent}"


def _only(rows: list[dict[str, Any]], what: str) -> dict[str, Any]:
    if len(rows) == 1:
        return rows[0]
    lines = [f"  {r['episode_id']}  {r['system']} (seed {r['seed']}), {r['panel']}, {r['task_id']}" for r in rows]
    more = [f"  and {len(rows) - _NAMED} more"] if len(rows) > _NAMED else []
    raise NotFound("\n".join([f"{len(rows)} {what}; say which:", *lines[:_NAMED], *more]))


def _load(row: dict[str, Any]) -> Episode:
    table = scan(Path(row["file"]), Episode).filter(pl.col("episode_id") == row["episode_id"]).collect()
    return from_json(Episode, table.row(0, named=True))
