"""Hints that people wrote, knowing the rules of an environment: the bank of the system `oracle`, an upper bound of what hints can do."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from stages.core import plugins
from stages.core.params import Cell
from stages.core.process import Fault
from stages.core.records import SCHEMA_VERSION, BankEntry

ANY = "any"
"""The category of hints that follow those of every other one."""


class OracleError(Fault, ValueError):
    """An environment has no hints written by hand, or not in the form expected: says which file, and what was found."""


def read_oracle(cell: Cell) -> list[BankEntry]:
    """The entries of a cell's environment, ranked as they stand in its file. They came from no failure, so they name no hints and no episodes,
    and their ids begin with `oracle-`, by which every episode that was shown one can be told.
    """
    path = plugins.environment(cell.env).oracle
    if path is None:
        raise OracleError(
            f"{cell.env} has no hints written by hand; write some (EnvSpec.oracle in stages/envs/{cell.env})"
        )
    return [
        _entry(cell, category, text, rank)
        for category, texts in _read(path).items()
        for rank, text in enumerate(texts, start=1)
    ]


def _read(path: Path) -> dict[str, list[str]]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise OracleError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not found:
        raise OracleError(f"{path}: expected lists of hints by category, found {found!r:.80}")
    for category, texts in found.items():
        if (
            not isinstance(texts, list)
            or not texts
            or not all(isinstance(text, str) and text.strip() for text in texts)
        ):
            raise OracleError(f"{path}: {category}: expected a list of hints, found {texts!r:.80}")
    return found


def _entry(cell: Cell, category: str, text: str, rank: int) -> BankEntry:
    name = hashlib.sha256(f"{cell}|{category}|{text}".encode()).hexdigest()[:9]
    return BankEntry(SCHEMA_VERSION, f"oracle-{name}", cell.env, cell.agent, category, text, 0, rank, [], [], "oracle")
