"""bank.md: the bank as people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from stages.core.records import BankEntry, Hint

_HEAD = "| rank | hint | stands for | where it came from | entry |\n|---|---|---|---|---|"


def bank_page(cell: str, bank: Sequence[BankEntry], hints: Sequence[Hint], curated: str) -> str:
    """Markdown, a table for each category. How often a hint was shown, and what came of it, is known only after the teacher has played: see
    `python -m stages show --bank`."""
    failures = {episode for entry in bank for episode in entry.episode_ids}
    by_hand = sum(entry.origin == "curated" for entry in bank)
    head = (
        f"# Hints of {cell}\n\n{len(bank)} entries from {len(failures)} failures on the train panel; {by_hand} of them by hand. "
        f"How often each was shown to the teacher, and how often it then succeeded: `python -m stages show --bank {cell}`. "
        f"To add, replace or remove hints: `{curated}`.\n"
    )
    rules = {hint.hint_id: hint.rule for hint in hints}
    parts = [head]
    for category, entries in groupby(bank, key=lambda entry: entry.category):
        parts.append(f"\n## {category}\n\n{_HEAD}\n" + "".join(f"{_row(entry, rules)}\n" for entry in entries))
    return "".join(parts)


def _row(entry: BankEntry, rules: Mapping[str, str]) -> str:
    text = entry.text.replace("|", "\\|")
    stands = f"{entry.count} hint{'s' * (entry.count != 1)} of {entry.failures} failure{'s' * (entry.failures != 1)}"
    return f"| {entry.rank} | {text} | {stands} | {came_from(entry, rules)} | `{entry.entry_id}` |"


def came_from(entry: BankEntry, rules: Mapping[str, str]) -> str:
    """The writer's rules behind an entry (`rules`, by hint), and whether a person had a hand in it."""
    names = sorted({rules[hint] for hint in entry.hint_ids if hint in rules})
    return ", ".join([*(["curated"] if entry.origin == "curated" else []), *names])
