"""Which project modules a stage is made of, read from the imports."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from stages.core import plugins

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "stages"

PLUMBING = (
    "stages/__init__.py",  # environment variables for libraries
    "stages/core",  # the values a stage uses of params.yaml are tracked, one by one, under `params:`
    "stages/cluster",  # where episodes are played determines nothing of them
)
"""What no stage lists: a change in it cannot change what a stage computes, and listing it would rerun everything."""

PINNED = {"data/cells": ("stages/envs", "stages/agents")}
"""Code that a data dependency has by its hash, see `stages.cells`."""

HOOKS = {"panels": "panels", "demos": "demonstrations", "hints": "hint_rules", "metrics": "", "report": ""}
"""The part of an environment that a stage calls by name, or what an environment says of itself: no import shows these."""


def module_file(name: str) -> Path | None:
    """The file of a dotted module of this project, or None."""
    base = ROOT / name.replace(".", "/")
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, in functions too, as far as they are this project's."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "stages" and module_file(name)}


@cache
def closure(name: str) -> frozenset[Path]:
    """All files that a module is made of, itself included."""
    seen: set[Path] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        parents = [".".join(current.split(".")[: n + 1]) for n in range(current.count("."))]
        path = module_file(current)
        if path is None or path in seen:
            continue
        seen.add(path)
        if under(path.relative_to(ROOT).as_posix(), PLUMBING):
            continue
        waiting += [*imported(path), *parents]
    return frozenset(seen)


def modules_of(command: str) -> set[str]:
    """The files that a stage's command runs, relative to the root, without the plumbing."""
    entry = re.search(r"-m stages\.(\w+)", command)
    assert entry, command
    files = set(closure(f"stages.{entry[1]}"))
    for env in plugins.names("envs") if entry[1] in HOOKS else ():
        part = HOOKS[entry[1]]
        files |= closure(getattr(plugins.environment(env), part).partition(":")[0] if part else f"stages.envs.{env}")
    for writer in plugins.names("hinting/writers") if entry[1] == "hints" else ():
        files |= closure(f"stages.hinting.writers.{writer}")
    return {path for file in files if not under(path := file.relative_to(ROOT).as_posix(), PLUMBING)}


def under(path: str, folders: tuple[str, ...] | list[str]) -> bool:
    """Whether a file is one of these, or lies below one of them."""
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
