"""Hints that people add to a bank, replace or remove, in the file that `hints.curated` names.

    webshop_act:                  # a cell
      add:
        fashion:                  # a category
          - "On the product's page, click the {fit} named in the instruction; only then click[Buy Now]."
      replace:
        6ccc71da: "Before click[Buy Now], click the {color} that the instruction names."
      remove: [b9a18b66]

Entries are named by their ids or the beginnings of these, as bank.md shows them. Nothing else may stand in the file; other cells' parts are not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from stages.core.params import Cell
from stages.core.process import Fault
from stages.core.records import SCHEMA_VERSION, BankEntry

BY_HAND = "curated-"  # what such entries' ids begin with


class CurationError(Fault, ValueError):
    """A curated file asks for what cannot be: says file, cell and key, what was found, and what to do."""


class Curation(BaseModel):
    """One cell's part of the file: texts to add by category, new texts by entry, entries to remove."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    add: dict[str, list[str]] = {}
    replace: dict[str, str] = {}
    remove: list[str] = []


@dataclass(frozen=True)
class Rules:
    """What a cell's hints must keep to. `categories` are those that its tasks may have."""

    cell: Cell
    categories: Sequence[str]
    max_chars: int


def read_curation(path: Path, rules: Rules) -> Curation:
    """A cell's part of the file, which is empty where the file has none. Raises `CurationError`."""
    try:
        # Ids of digits alone stay text.
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except OSError as error:
        raise CurationError(
            f"{path}: can't be read ({error.strerror}); hints.curated in params.yaml names it"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CurationError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if found is not None and not isinstance(found, Mapping):
        raise CurationError(f"{path}: expected cells such as {rules.cell}, found {type(found).__name__}")
    try:
        curation = Curation.model_validate((found or {}).get(rules.cell) or {})
    except ValidationError as error:
        raise CurationError(f"{path}: {_first_fault(rules.cell, error)}") from None
    _check(curation, path, rules)
    return curation


def _first_fault(cell: str, error: ValidationError) -> str:
    fault: Any = error.errors()[0]
    where = ".".join(map(str, (cell, *fault["loc"])))
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown; a cell has add, replace and remove"
    return f"{where}: {fault['msg']}, found {fault['input']!r:.60}"


def _check(curation: Curation, path: Path, rules: Rules) -> None:
    for category in curation.add:
        if category not in rules.categories:
            raise CurationError(
                f"{path}: {rules.cell}.add names the category {category!r}; there are {', '.join(rules.categories)}"
            )
    added = [(f"add.{category}", text) for category, texts in curation.add.items() for text in texts]
    for key, text in [*added, *((f"replace.{name}", text) for name, text in curation.replace.items())]:
        if not text.strip() or "\n" in text.strip():
            raise CurationError(f"{path}: {rules.cell}.{key}: expected one line of text, found {text!r:.60}")
        if len(text) > rules.max_chars:
            raise CurationError(
                f"{path}: {rules.cell}.{key}: {len(text)} characters, hints.max_chars allows {rules.max_chars}: {text[:60]!r}"
            )


def curate(bank: Sequence[BankEntry], curation: Curation, path: Path, rules: Rules) -> list[BankEntry]:
    """The bank with what people changed. Added hints come first in their category, in the file's order, and stand for no failure; a replaced text
    keeps its place, count and failures. Both have the origin `curated`, and ids
    that begin with it, so that every record of an episode shown one says so. Raises `CurationError` for an entry that the bank does not have, or
    has twice under that beginning, and for a text that stands in its category already."""
    removed = {_named(bank, name, "remove", path, rules).entry_id for name in curation.remove}
    texts = {_named(bank, name, "replace", path, rules).entry_id: text for name, text in curation.replace.items()}
    both = sorted(removed & texts.keys())
    if both:
        raise CurationError(f"{path}: {rules.cell} both replaces and removes {both[0]}; keep one of them")
    kept = [_rewritten(e, texts[e.entry_id]) if e.entry_id in texts else e for e in bank if e.entry_id not in removed]
    added = [_added(rules.cell, category, text) for category, found in curation.add.items() for text in found]
    ordered = [*added, *sorted(kept, key=lambda entry: entry.rank)]
    categories = sorted({entry.category for entry in ordered})
    curated = [e for c in categories for e in _ranked(entry for entry in ordered if entry.category == c)]
    seen: set[str] = set()
    for entry in curated:
        if entry.entry_id in seen:
            raise CurationError(
                f"{path}: {rules.cell}: the hint {entry.text[:60]!r} stands twice in {entry.category}; leave one out"
            )
        seen.add(entry.entry_id)
    return curated


def _named(bank: Sequence[BankEntry], name: str, key: str, path: Path, rules: Rules) -> BankEntry:
    found = [entry for entry in bank if name and entry.entry_id.startswith(name)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{e.entry_id[:8]} ({e.category}: {e.text[:24]}...)" for e in (found or bank)[:3])
    what = f"{len(found)} entries' ids begin" if found else "no entry's id begins"
    raise CurationError(
        f"{path}: {rules.cell}.{key}: {what} with {name!r} among the bank's {len(bank)}, such as {listed or 'none'}; correct or drop it"
    )


def _rewritten(entry: BankEntry, text: str) -> BankEntry:
    name = BY_HAND + entry_id(entry.env, entry.agent, entry.category, text)
    return replace(entry, entry_id=name, text=text, origin="curated")


def _added(cell: Cell, category: str, text: str) -> BankEntry:
    name = BY_HAND + entry_id(cell.env, cell.agent, category, text)
    return BankEntry(SCHEMA_VERSION, name, cell.env, cell.agent, category, text, 0, 0, [], [], "curated")


def _ranked(entries: Iterable[BankEntry]) -> list[BankEntry]:
    return [replace(entry, rank=rank) for rank, entry in enumerate(entries, 1)]


def entry_id(env: str, agent: str, category: str, text: str) -> str:
    """What a bank's entry is called: the same for the same words."""
    return hashlib.sha256(f"{env}|{agent}|{category}|{text}".encode()).hexdigest()[:16]
