"""A cell's hint bank on a terminal: where each hint came from, and what came of showing it."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages.core.records import BankEntry, Episode, Hint, read, scan
from stages.hinting.page import came_from
from stages.viewing.episodes import DATA, NotFound
from stages.viewing.terminal import plain, say


def banks(cell: str) -> list[str]:
    """The cell, or all cells that have a bank where it is "". Raises `NotFound` where there is none."""
    found = sorted(path.parent.name for path in DATA.glob("hints/*/bank.parquet"))
    if not found:
        raise NotFound(f"no hints are in {DATA.absolute()}; run `dvc repro` first")
    if cell and cell not in found:
        raise NotFound(f"there is no bank of {cell!r}, only of {', '.join(found)}")
    return [cell] if cell else found


def show_bank(console: Console, cell: str) -> None:
    """The bank's entries by category and rank. `shown` counts the hinted teacher's episodes, all of them on the train panel: nothing here says how
    a hint fared on dev or test."""
    folder = DATA / "hints" / cell
    bank, hints = read(folder / "bank.parquet", BankEntry), read(folder / "hints.parquet", Hint)
    rules = {hint.hint_id: hint.rule for hint in hints}
    use = shown(cell)
    table = Table(title=f"Hints of {cell}", box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("category", "rank", "hint", "count", "from", "shown", "solved"):
        table.add_column(name, justify="right" if name in ("rank", "count", "shown", "solved") else "left")
    for entry in bank:
        times, won = use.get(entry.entry_id, (0, 0)) if use is not None else ("-", "-")
        text = Text.assemble(plain(entry.text), (f"  [{entry.entry_id[:8]}]", "dim"))
        source = Text(plain(came_from(entry, rules)))
        table.add_row(
            Text(plain(entry.category)), str(entry.rank), text, str(entry.count), source, str(times), str(won)
        )
    say(console, table, console.width)


def shown(cell: str) -> Mapping[str, tuple[int, int]] | None:
    """By entry, the teacher's episodes that were shown it and those of them it solved; the machine's failures left out. None before the teacher
    has played."""
    path = DATA / "teacher" / cell / "rag" / "episodes.parquet"
    if not path.is_file():
        return None
    played = (
        scan(path, Episode).filter(pl.col("machine_failure") == "").select("hint_ids", "success").explode("hint_ids")
    )
    counts = played.group_by("hint_ids").agg(pl.len(), pl.col("success").sum()).drop_nulls().collect()
    return {entry: (times, won) for entry, times, won in counts.iter_rows()}
