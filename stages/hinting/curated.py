"""Hints that people add to a bank, replace or remove, in the file that `hints.curated` names.

    webshop_act:                  # a cell
      add:
        fashion:                  # a category
          - "On the product's page, click the {fit} named in the instruction; only then click[Buy Now]."
      replace:
        6ccc71da: "Before click[Buy Now], click the {color} that the instruction names."
      remove: [b9a18b66]

Entries are named by their ids or the beginnings of these, as bank.md shows them. A text over several lines becomes one line. Nothing else may stand in the file; other
cells' parts are not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from stages.core.params import Cell, CellName
from stages.core.process import Fault
from stages.core.records import SCHEMA_VERSION, BankEntry

BY_HAND = "curated-"  # what such entries' ids begin with

Text = Annotated[str, AfterValidator(lambda text: " ".join(text.split()))]
_CELL: TypeAdapter[str] = TypeAdapter(CellName)


class CurationError(Fault, ValueError):
    """A curated file asks for what cannot be: says file, cell and key, what was found, and what to do."""


class Curation(BaseModel):
    """One cell's part of the file: texts to add by category, new texts by entry, entries to remove."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    add: dict[str, list[Text]] = {}
    replace: dict[str, Text] = {}
    remove: list[str] = []


@dataclass(frozen=True)
class Rules:
    """What a cell's hints must keep to. `categories` are those that its tasks may have."""

    cell: Cell
    categories: Sequence[str]
    max_chars: int


def read_curation(path: Path, rules: Rules) -> Curation:
    """A cell's part of the file, which is empty where the file has none. Raises `CurationError`."""
    cells = _cells(path, rules.cell)
    try:
        curation = Curation.model_validate(cells.get(rules.cell) or {})
    except ValidationError as error:
        raise CurationError(f"{path}: {_first_fault(rules.cell, error)}") from None
    _check(curation, path, rules)
    return curation


def _cells(path: Path, example: Cell) -> Mapping[str, Any]:
    """All cells' parts of the file, each named as a cell may be."""
    try:
        # Ids of digits alone stay text.
        found = YAML(typ="base", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CurationError(
            f"{path}: can't be read ({error.strerror}); hints.curated in params.yaml names it"
        ) from error
    except DuplicateKeyError as error:
        said = f"line {error.problem_mark.line + 1}: {error.problem.partition(' with value')[0]}"
        raise CurationError(f"{path}: {said}; write it once, with all that belongs to it") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise CurationError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise CurationError(f"{path}: expected cells such as {example}, found {type(found).__name__}")
    for name in found:
        try:
            _CELL.validate_python(name)
        except ValidationError as error:
            said = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise CurationError(f"{path}: {name!r} is no cell: {said}; correct the name") from None
    return found


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
        if not text:
            raise CurationError(f"{path}: {rules.cell}.{key}: expected a text, found nothing; write one or drop it")
        if len(text) > rules.max_chars:
            raise CurationError(
                f"{path}: {rules.cell}.{key}: {len(text)} characters, hints.max_chars allows {rules.max_chars}: {text[:60]!r}"
            )


def curate(bank: Sequence[BankEntry], curation: Curation, path: Path, rules: Rules) -> list[BankEntry]:
    """The bank with what people changed. Added hints come first in their category, in the file's order, and stand for no failure; a replaced text
    keeps its place, count and failures. Both have the origin `curated`, and ids
    that begin with it, so that every record of an episode shown one says so. Raises `CurationError` for an entry that the bank does not have, or
    has twice under that beginning, for one that is named twice, and for a text that stands in its category already."""
    removed = [_named(bank, name, "remove", path, rules).entry_id for name in curation.remove]
    replaced = [_named(bank, name, "replace", path, rules).entry_id for name in curation.replace]
    named = [*removed, *replaced]
    twice = next((name for name in named if named.count(name) > 1), "")
    if twice:
        raise CurationError(
            f"{path}: {rules.cell} names the entry {twice} twice under replace and remove; keep one of them"
        )
    texts = dict(zip(replaced, curation.replace.values(), strict=True))
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
