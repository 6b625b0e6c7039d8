"""What a cell stands on, hashed so that a change reruns the cells it concerns and no other; and tasks that no cell could play."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import cells
from stages.core import plugins
from stages.core.params import Cell
from stages.envs.base import Task
from stages.envs.panel import load_panel, write_panels

SIZES = {"train": 3, "dev": 1, "test": 2}
SPECS: dict[str, dict[str, Any]] = {
    "alfworld": {"scene": 1, "task_type": "pick_and_place_simple", "object": "Mug", "receptacle": "Shelf"},
    "webshop": {"asin": "B0LUMO0001", "wants": "plain"},
}


def task(env: str, panel: str, number: int) -> Task:
    category = "put" if env == "alfworld" else "garden"
    return Task(f"{env}-{panel}-{number}", env, panel, category, "a goal", SPECS[env])


def write_tasks(env: str, sizes: Mapping[str, int] = SIZES, change: Callable[[Task], Task] = lambda t: t) -> None:
    """The panels of an environment, each task of them changed."""
    folder = Path("data/panels") / env
    folder.mkdir(parents=True, exist_ok=True)
    made = {panel: [change(task(env, panel, i)) for i in range(n)] for panel, n in sizes.items()}
    write_panels(folder, env, "made up", made)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's settings, and a few tasks of both environments."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    for env in SPECS:
        write_tasks(env)
    return tmp_path


def stage(monkeypatch: pytest.MonkeyPatch, cell: str) -> int:
    monkeypatch.setattr("sys.argv", ["cells", "--cell", cell])
    return cells.main()


def written(cell: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (Path("data/cells") / cell).iterdir()}


def change_setting(*keys: str, to: object) -> None:
    settings = inner = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    Path("params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def test_a_cell_stands_on_its_panels_its_code_and_its_recipe(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage(monkeypatch, "alfworld_react") == 0
    said = "cells alfworld_react: checks what a cell stands on\ncells: alfworld_react: train 3, dev 1, test 2\n"
    assert capsys.readouterr().out == said
    files = written("alfworld_react")
    folder = project / "data/panels/alfworld"
    assert set(files) == {"play.json", "training.json"}
    assert json.loads(files["play.json"]) == {
        "schema_version": 1,
        "env": "alfworld",
        "agent": "react",
        "panels": {name: {"n": n, "sha256": load_panel(folder, name)[1]} for name, n in SIZES.items()},
        "code": {"env": cells.code_sha256("envs", "alfworld"), "agent": cells.code_sha256("agents", "react")},
        "shots": 0,
        "max_turns": 20,
    }
    recipe = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["students"]["alfworld"]
    assert json.loads(files["training.json"]) == {"schema_version": 1, **recipe}
    assert stage(monkeypatch, "alfworld_react") == 0
    assert written("alfworld_react") == files


def test_a_recipe_concerns_its_environments_students_alone(project: Path) -> None:
    cells.run("alfworld_react")
    before = written("alfworld_react")
    change_setting("students", "webshop", "epochs", to=7)
    cells.run("alfworld_react")
    assert written("alfworld_react") == before
    change_setting("students", "alfworld", "epochs", to=7)
    cells.run("alfworld_react")
    after = written("alfworld_react")
    assert after["play.json"] == before["play.json"] and json.loads(after["training.json"])["epochs"] == 7


def test_tasks_concern_their_environments_cells_alone(project: Path) -> None:
    cells.run("alfworld_react")
    before = written("alfworld_react")
    write_tasks("webshop", {"train": 5, "dev": 5, "test": 5})
    cells.run("alfworld_react")
    assert written("alfworld_react") == before
    write_tasks("alfworld", change=lambda t: dataclasses.replace(t, goal="another goal"))
    cells.run("alfworld_react")
    after = written("alfworld_react")
    assert after["training.json"] == before["training.json"]
    old, new = (json.loads(files["play.json"]) for files in (before, after))
    assert old["code"] == new["code"]
    for panel in SIZES:
        assert old["panels"][panel]["n"] == new["panels"][panel]["n"]
        assert old["panels"][panel]["sha256"] != new["panels"][panel]["sha256"]


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folders in which environments, agents and hint writers are found."""
    copy = tmp_path / "stages"
    for folder in plugins.SHARED:
        shutil.copytree(plugins.STAGES / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(plugins, "STAGES", copy)
    return copy


OWN = [
    ("envs", "alfworld", "alfworld/engine.py"),
    ("envs", "alfworld", "alfworld/examples.json"),
    ("envs", "alfworld", "alfworld/deeper/new.py"),
    ("envs", "webshop", "webshop/reward.py"),
    ("agents", "react", "react.py"),
    *(("envs", "alfworld", shared) for shared in ("__init__.py", "base.py", "panel.py", "registry.py", "new.txt")),
    *(("agents", "react", shared) for shared in ("__init__.py", "base.py", "shots.py")),
]
OTHERS = [
    ("envs", "alfworld", "webshop/reward.py"),
    ("envs", "webshop", "alfworld/examples.json"),
    ("envs", "alfworld", "maze.py"),
    ("envs", "alfworld", "maze/__init__.py"),
    ("envs", "alfworld", "alfworld/__pycache__/engine.cpython-311.pyc"),
    ("agents", "react", "stateact.py"),
    ("agents", "act", "react.py"),
    ("agents", "react", "plan.py"),
    ("agents", "react", "plan/__init__.py"),
]


@pytest.mark.parametrize(
    ("folder", "name", "file", "concerned"), [(*case, True) for case in OWN] + [(*case, False) for case in OTHERS]
)
def test_a_change_in_code_concerns_whom_it_belongs_to_and_all_if_it_is_shared(
    code: Path, folder: str, name: str, file: str, concerned: bool
) -> None:
    before = cells.code_sha256(folder, name)
    assert cells.code_sha256(folder, name) == before
    path = code / folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        handle.write("\n")
    assert (cells.code_sha256(folder, name) != before) == concerned


def test_files_that_go_or_get_another_name_are_changes_too(code: Path) -> None:
    folder = code / "envs" / "alfworld"
    digests = [cells.code_sha256("envs", "alfworld")]
    shutil.move(folder / "instruction.py", folder / "instructions.py")
    digests.append(cells.code_sha256("envs", "alfworld"))
    (folder / "instructions.py").unlink()
    digests.append(cells.code_sha256("envs", "alfworld"))
    assert len(set(digests)) == 3
    shutil.rmtree(code / "envs" / "webshop")
    assert cells.code_sha256("envs", "alfworld") == digests[-1]


def test_a_cell_stands_on_the_code_of_its_own_environment_and_agent(project: Path, code: Path) -> None:
    def stands_on(cell: str) -> dict[str, str]:
        return dict(cells.stands_on(Cell(cell), project / "data/panels" / Cell(cell).env, ())["code"])

    names = ("alfworld_react", "alfworld_act", "webshop_act")
    before = {name: stands_on(name) for name in names}
    (code / "agents" / "act.py").write_text("AGENT = None\n", encoding="utf-8")
    after = {name: stands_on(name) for name in names}
    assert after["alfworld_react"] == before["alfworld_react"]
    for name in ("alfworld_act", "webshop_act"):
        assert after[name]["env"] == before[name]["env"] and after[name]["agent"] != before[name]["agent"]


def lacking(key: str) -> Callable[[Task], Task]:
    return lambda t: dataclasses.replace(t, spec={k: v for k, v in t.spec.items() if k != key})


@pytest.mark.parametrize(
    ("cell", "change", "message"),
    [
        (
            "alfworld_react",
            lambda t: dataclasses.replace(t, category="fly", spec={**t.spec, "wants": "put"}),
            "alfworld-train-0 (panel 'train') has category 'fly', alfworld has clean, cool, examine, heat, put, puttwo",
        ),
        (
            "alfworld_react",
            lambda t: dataclasses.replace(t, spec={**t.spec, "wants": "fly" if t.panel == "test" else "put"}),
            "alfworld-test-0 (panel 'test') has skill 'fly', alfworld has clean, cool, examine, heat, put, puttwo",
        ),
        (
            "webshop_act",
            lambda t: dataclasses.replace(t, spec={**t.spec, "wants": "colour" if t.panel == "dev" else "plain"}),
            "webshop-dev-0 (panel 'dev') has skill 'colour', webshop has plain, options",
        ),
        (
            "alfworld_react",
            lacking("receptacle"),
            "alfworld-train-0 (panel 'train') has no 'receptacle', by which alfworld tells goals apart",
        ),
        (
            "webshop_act",
            lacking("asin"),
            "webshop-train-0 (panel 'train') has no 'asin', by which webshop tells goals apart",
        ),
    ],
)
def test_tasks_that_the_environment_does_not_know_are_refused_by_name(
    cell: str,
    change: Callable[[Task], Task],
    message: str,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells.run(cell)
    before = written(cell)
    write_tasks(Cell(cell).env, change=change)
    assert stage(monkeypatch, cell) == 1
    assert capsys.readouterr().err == f"cells: {message}\n"
    assert written(cell) == before


def test_any_category_will_do_where_the_environment_names_none(project: Path) -> None:
    write_tasks("webshop", change=lambda t: dataclasses.replace(t, category="never heard of"))
    assert cells.run("webshop_act") == "webshop_act: train 3, dev 1, test 2"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("maze_react", "there is no environment 'maze' in stages/envs, only " + ", ".join(plugins.names("envs"))),
        ("alfworld_poet", "there is no agent 'poet' in stages/agents, only " + ", ".join(plugins.names("agents"))),
    ],
)
def test_cells_that_nobody_wrote_are_refused(
    cell: str, message: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage(monkeypatch, cell) == 1
    assert capsys.readouterr().err == f"cells: {message}\n"
    assert not Path("data/cells").exists()


def test_panels_that_are_missing_are_named_with_what_makes_them(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("data/panels/webshop")
    assert stage(monkeypatch, "webshop_act") == 1
    said = capsys.readouterr().err
    assert "data/panels/webshop/panels.json: can't be read" in said and "dvc repro panels" in said
