"""The house's rules, held against the code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml
from structure import PACKAGE, ROOT, code_deps, imported

GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
MODULES = sorted(PACKAGE.rglob("*.py"))
ENTRIES = {f"stages.{path.stem}" for path in PACKAGE.glob("*.py") if f"stages.{path.stem}" in str(GRAPH)}


def rooms(path: Path) -> set[str]:
    """The folders of stages/ that a file imports from."""
    return {name.split(".")[1] for name in imported(path) if name.count(".")}


@pytest.mark.parametrize("stage", GRAPH)
def test_a_stage_depends_on_exactly_the_modules_it_imports(stage: str) -> None:
    listed = {dep for dep in GRAPH[stage]["deps"] if dep.startswith("stages/")}
    assert listed == set(code_deps(GRAPH[stage]["cmd"])), "run `python tests/structure.py --write`"


def test_only_track_imports_mlflow() -> None:
    for path in MODULES:
        if path.name == "track.py" or path.parent.name == "tracking":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "mlflow" for name in names), path


@pytest.mark.parametrize(
    "path", [p for p in MODULES if p.parent != PACKAGE], ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_parts_never_import_stages(path: Path) -> None:
    assert not imported(path) & ENTRIES


@pytest.mark.parametrize("room", ["envs", "agents", "engines"])
def test_environments_agents_and_engines_do_not_know_each_other(room: str) -> None:
    others = {"envs", "agents", "engines"} - {room}
    for path in (PACKAGE / room).rglob("*.py"):
        assert not rooms(path) & others, path


def test_no_file_is_longer_than_a_person_reads_at_once() -> None:
    files = [*MODULES, *(ROOT / "tests").glob("*.py")]
    assert {p.name: n for p in files if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400} == {}


def test_constraints_pin_every_dependency_and_name_no_address() -> None:
    import tomllib

    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text and " @ " not in text
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in text.splitlines() if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {
        w.split(";")[0].split("=")[0].split(">")[0].split("<")[0].strip().lower().replace("_", "-") for w in wanted
    }
    assert names <= pinned, names - pinned


def sections_read(path: Path) -> set[str]:
    """First names behind `settings.` and `load().` in a file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            value = node.value
            called = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "load"
            if called or (isinstance(value, ast.Name) and value.id == "settings"):
                found.add(node.attr)
    return found - {"model_dump"}


@pytest.mark.parametrize("stage", ["panels", "source", "demos", "lessons", "students", "metrics"])
def test_a_stage_reads_only_the_settings_it_depends_on(stage: str) -> None:
    listed = {str(key).split(".")[0] for key in GRAPH[stage].get("params", [])}
    assert sections_read(PACKAGE / f"{stage}.py") <= listed
