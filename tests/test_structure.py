"""The house's rules, held against the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from structure import PACKAGE, PINNED, PLUMBING, ROOT, imported, modules_of, under

from stages.core import plugins

GRAPH: dict[str, dict[str, Any]] = {
    name: stage.get("do", stage)
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items()
}
MODULES = sorted(PACKAGE.rglob("*.py"))
ENTRIES = {f"stages.{path.stem}" for path in PACKAGE.glob("*.py")} - {"stages.__init__", "stages.__main__"}
PLAYING = {"rollouts", "teacher", "evaluate", "evaluate_hinted", "evaluate_students", "evaluate_aided"}
RERUNS = {
    "core": set(),
    "cluster": set(),
    "commands": set(),
    "viewing": set(),
    "site": set(),
    "models": {"source", "warmup", "base", "hints", "lessons", "students"} | PLAYING,
    "pretrained": {"source"},
    "envs": {"panels", "demos", "cells", "metrics", "report"},
    "panelling": {"panels", "demos"},
    "demonstrations": {"demos"},
    "agents": {"demos", "cells", "report", "track"},
    "engines": {"hints"} | PLAYING,
    "retrieval": PLAYING,
    "runner": PLAYING,
    "language": {"demos", "hints"},
    "hinting": {"demos", "hints"},
    "curation": {"lessons"},
    "training": {"warmup", "base", "students"},
    "stats": {"metrics", "report", "track"},
    "reporting": {"report", "track"},
    "tracking": {"track"},
}
"""By package, the stages that an edit in it reruns at once; further ones follow where these write something new. By `cells`, an edit in an
environment or agent reruns what its own cells play, and no other cell."""


def rooms(path: Path) -> set[str]:
    """The folders of stages/ that a file imports from."""
    return {name.split(".")[1] for name in imported(path) if name.count(".")}


def code_deps(stage: str) -> list[str]:
    return [dep for dep in GRAPH[stage]["deps"] if dep.startswith("stages/")]


@pytest.mark.parametrize("stage", GRAPH)
def test_every_module_that_a_stage_imports_lies_under_one_of_its_dependencies(stage: str) -> None:
    pinned = [code for data, code in PINNED.items() if any(under(dep, [data]) for dep in GRAPH[stage]["deps"])]
    covered = [*code_deps(stage), *(folder for code in pinned for folder in code)]
    assert {module for module in modules_of(GRAPH[stage]["cmd"]) if not under(module, covered)} == set()


@pytest.mark.parametrize("stage", GRAPH)
def test_a_stage_depends_on_no_code_that_it_does_not_import(stage: str) -> None:
    modules = modules_of(GRAPH[stage]["cmd"])
    assert [dep for dep in code_deps(stage) if not any(under(module, [dep]) for module in modules)] == []
    assert len(GRAPH[stage]["deps"]) <= 14


def test_an_edit_in_a_package_reruns_these_stages() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert {p: {s for s in GRAPH if f"stages/{p}" in code_deps(s)} for p in packages} == RERUNS


def test_the_page_on_architecture_names_every_package_and_what_an_edit_in_it_reruns() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    table = page.split("<!-- packages -->")[1].split("<!-- /packages -->")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", table, re.M))
    assert rows.keys() == RERUNS.keys()
    for package, said in rows.items():
        named = set(re.findall(r"`(\w+)`", said.split(";")[0]))
        assert named | (PLAYING if "what plays" in said.split(";")[0] else set()) == RERUNS[package], package


def test_the_picture_of_the_graph_is_dvcs_own() -> None:
    from dvc.repo import Repo

    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", page.split("<!-- dag -->")[1].split("<!-- /dag -->")[0], re.M))
    with Repo(str(ROOT)) as repo:
        edges = {(b.name.split("@")[0], a.name.split("@")[0]) for a, b in repo.index.graph.edges}
    assert drawn == edges


def test_the_root_of_the_package_holds_the_stages_and_nothing_else() -> None:
    assert {name.removeprefix("stages.") for name in ENTRIES} | PLAYING == set(GRAPH)


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
def test_parts_import_neither_stages_nor_commands(path: Path) -> None:
    if path.parent.name != "commands":
        assert not imported(path) & ENTRIES
        assert "commands" not in rooms(path)


def test_what_all_rest_on_rests_on_nothing_else() -> None:
    for path in (PACKAGE / "core").rglob("*.py"):
        assert rooms(path) <= {"core"}, path


def test_engines_know_neither_environments_nor_agents() -> None:
    for path in (PACKAGE / "engines").rglob("*.py"):
        assert not rooms(path) & {"envs", "agents"}, path


@pytest.mark.parametrize("folder", ["envs", "agents"])
def test_no_environment_and_no_agent_imports_another(folder: str) -> None:
    names = set(plugins.names(folder))
    for path in (PACKAGE / folder).rglob("*.py"):
        own = path.relative_to(PACKAGE / folder).parts[0].removesuffix(".py")
        used = {name.split(".")[2] for name in imported(path) if name.startswith(f"stages.{folder}.")}
        assert used & names <= {own}, path


def test_no_file_is_longer_than_a_person_reads_at_once() -> None:
    files = [*MODULES, *(ROOT / "tests").glob("*.py")]
    assert {p.name: n for p in files if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400} == {}
    limits = {"dvc.yaml": 300, "README.md": 150, **{f"docs/{p.name}": 200 for p in (ROOT / "docs").glob("*.md")}}
    assert {f: n for f, most in limits.items() if (n := len((ROOT / f).read_text().splitlines())) > most} == {}
    assert (ROOT / "dvc.lock").stat().st_size <= 70_000


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


METHODS = {"model_dump": set(), "cell": set(), "measured": {"evaluate"}}
"""What methods of the settings read; a cell's name is in a stage's own command."""
PINNED_SETTINGS = {"play.json": {"panels", "agent", "runner"}, "training.json": {"students"}}
"""Settings by environment that a cell's files carry, see `stages.cells`."""


def sections_read(path: Path) -> set[str]:
    """First names behind `settings.`, `self.settings.` and `load().` in a file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            value = node.value
            called = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "load"
            own = isinstance(value, ast.Attribute) and value.attr == "settings"
            if called or own or (isinstance(value, ast.Name) and value.id == "settings"):
                found |= METHODS.get(node.attr, {node.attr})
    return found


@pytest.mark.parametrize("stage", sorted(set(GRAPH) - {"track"}))
def test_a_stage_reads_only_the_settings_it_depends_on(stage: str) -> None:
    files = [PACKAGE / f"{stage.partition('_')[0]}.py", *([PACKAGE / "runner/study.py"] if stage in PLAYING else [])]
    read = set().union(*map(sections_read, files)) - (
        {"evaluate"} if stage in ("rollouts", "teacher", "cells") else set()
    )
    if stage == "hints":  # its `settings` are the section itself, and a writer is given all
        read = {"hints", "engine"}
    listed = {str(key).split(".")[0] for key in GRAPH[stage].get("params", [])}
    for dep in GRAPH[stage]["deps"]:
        listed |= {"panels"} if dep == "data/panels" else set()
        for file, sections in PINNED_SETTINGS.items():
            listed |= sections if dep.endswith(("${item.cell}", file)) and "data/cells" in dep else set()
    hints_k = {"hints"} if stage in ("rollouts", "evaluate") else set()  # of systems without hints
    assert read - listed - hints_k == set()


def test_plumbing_exists() -> None:
    assert all((ROOT / path).exists() for path in PLUMBING)


def test_environments_and_agents_rest_on_core_alone() -> None:
    for room in ("envs", "agents"):
        for path in (PACKAGE / room).rglob("*.py"):
            assert rooms(path) <= {"core", room}, path
