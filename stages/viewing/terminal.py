"""Lines with a label each, wrapped to the terminal; colours where it takes them (NO_COLOR and COLUMNS are respected)."""

from __future__ import annotations

import os
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages.core.text import visible

UNKNOWN_WIDTH = 160  # columns where no stream is a terminal: two episodes fit beside each other
READING_WIDTH = 110  # columns at most of a single episode: longer lines are hard to read
LABEL_WIDTH = 8

Row = tuple[str, str | Text]  # a label and what stands beside it


def open_console() -> Console:
    """stdout, as plain text unless it is a terminal."""
    console = Console(highlight=False)
    if "COLUMNS" not in os.environ and not any(map(os.isatty, (0, 1, 2))):
        console.width = UNKNOWN_WIDTH
    return console


def plain(text: str) -> str:
    """Text without its margins, and without characters that would steer the terminal: models and sites may write anything."""
    return visible("\n".join(line.rstrip() for line in text.strip().split("\n")))


def labelled(rows: Iterable[Row], number: int | None = None) -> Table:
    """A line a row; with a `number`, it stands before the first and leaves room before the others."""
    grid = Table.grid(padding=(0, 1), expand=True)
    if number is not None:
        grid.add_column(width=3, justify="right", style="bold")
    grid.add_column(width=LABEL_WIDTH, no_wrap=True, style="dim")
    grid.add_column(ratio=1, overflow="fold")
    heads = [str(number or "")] if number is not None else []
    for label, text in rows:
        cell = text if isinstance(text, Text) else Text(plain(text))
        grid.add_row(*heads, Text(label), cell)
        heads = [""] * len(heads)
    return grid


def say(console: Console, block: Table | Text, width: int = READING_WIDTH, gap: bool = True) -> None:
    """Print a block at once, with `gap` a blank line behind it, without the spaces that fill its lines up."""
    with console.capture() as caught:
        console.print(block, width=min(console.width, width))
    print(
        "\n".join(line.rstrip() for line in caught.get().rstrip().split("\n")), end="\n\n" if gap else "\n", flush=True
    )
