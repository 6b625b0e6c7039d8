"""An environment of one's own is found by its name, brings its settings, and is refused in one line where it lacks something."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_params import VALUES, changed, fault

import stages.envs
from stages.cells import CellError, check_tasks
from stages.core import plugins
from stages.core.params import SettingsError, parse
from stages.envs.base import Task

MAZE = """
from stages.core.sections import PanelSettings
from stages.core.spec import EnvSpec, Interface
from stages.envs.base import Task


class Settings(PanelSettings):
    rooms: int

    def size(self, panel):
        return self.rooms


class Maze:
    def __init__(self, panels, cache): ...
    def reset(self, task): ...
    def step(self, action): ...


def build(settings, out, cache, limit): ...


ENVIRONMENT = EnvSpec(
    name="maze",
    title="Maze",
    interface=Interface("You are in a maze."),
    environment="stages.envs.maze:Maze",
    settings="stages.envs.maze:Settings",
    panels="stages.envs.maze:build",
    categories_read="stages.envs.maze:build",
    same_goal=("goal",),
    skills=("walk",),
    categories=("left", "right"),
)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folders in which environments, agents and hint writers are found, copied, with an environment `maze`."""
    for folder in plugins.SHARED:
        shutil.copytree(plugins.STAGES / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(plugins, "STAGES", tmp_path)
    monkeypatch.setattr("stages.envs.__path__", [*stages.envs.__path__, str(tmp_path / "envs")])
    (tmp_path / "envs" / "maze.py").write_text(MAZE, encoding="utf-8")
    plugins.environment.cache_clear()
    yield tmp_path
    plugins.environment.cache_clear()
    sys.modules.pop("stages.envs.maze", None)


IN_MAZE: dict[str, Any] = {
    "axes__cell": ["alfworld_react", "maze_act"],
    "panels__maze": {"source": "dug", "rooms": 4},
    "warmup__enabled": False,
    "runner__max_turns__maze": 9,
    "hints__per_failure__maze": 2,
    "lessons__max_refused__maze": 0,
    "agent__shots__maze": 0,
    "students__maze": VALUES["students"]["alfworld"],
}
"""Settings of a study with a cell in the maze, which no model is warmed up for."""


def test_an_environment_of_ones_own_brings_its_settings(own: Path) -> None:
    settings = parse(changed(**IN_MAZE), "params.yaml")
    plugins.check_environment("maze")
    assert settings.axes.envs == ["alfworld", "maze"]
    assert settings.panels["maze"].model_dump() == {"source": "dug", "rooms": 4}
    assert (settings.size("maze", "test"), settings.measured("maze")) == (4, ["dev", "test"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"panels__maze": {"source": "dug", "rooms": "many"}}, "panels.maze.rooms: "),
        ({"panels__maze": {"source": "dug", "rooms": 4, "doors": 2}}, "panels.maze.doors: Extra inputs"),
        (
            {"agent__shots__maze": 1},
            "(top): agent.shots asks for 1 worked examples on maze, where 0 are written",
        ),
        (
            {"runner__max_turns": {"alfworld": 20}},
            "(top): runner.max_turns says nothing of maze, which axes.cell names",
        ),
        (
            {"warmup__enabled": True, "warmup__cells": ["alfworld_react", "maze_act"]},
            "(top): warmup.cells names maze_act, and maze has no demonstrations",
        ),
    ],
)
def test_settings_that_do_not_fit_it_are_refused(own: Path, change: dict[str, Any], said: str) -> None:
    assert fault(changed(**{**IN_MAZE, **change})).startswith(said)


def test_two_environments_of_one_name_are_refused(own: Path) -> None:
    (own / "envs" / "maze").mkdir()
    assert plugins.names("envs").count("maze") == 1, "a folder that is no package is no environment"
    (own / "envs" / "maze" / "__init__.py").write_text(MAZE, encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        parse(VALUES, "params.yaml")
    assert str(error.value) == (
        "params.yaml: stages/envs holds maze.py and maze/, two of one name; rename or remove one"
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "    def step(self, action): ...\n",
            "",
            "stages.envs.maze:Maze has no step: see stages.envs.base.Environment",
        ),
        ("def build(", "def make(", "stages.envs.maze:build: module 'stages.envs.maze' has no attribute 'build'"),
        (
            'name="maze"',
            'name="hall"',
            "stages/envs/maze: ENVIRONMENT must be an EnvSpec named 'maze', found EnvSpec(name='hall'",
        ),
        ("ENVIRONMENT = ", "SPEC = ", "stages.envs.maze:ENVIRONMENT: module 'stages.envs.maze' has no attribute"),
        ("from stages.envs.base import Task", "import mazes", "stages.envs.maze:ENVIRONMENT: No module named 'mazes'"),
    ],
)
def test_an_environment_that_lacks_something_is_refused_by_name(own: Path, old: str, new: str, said: str) -> None:
    assert old in MAZE
    (own / "envs" / "maze.py").write_text(MAZE.replace(old, new), encoding="utf-8")
    with pytest.raises(plugins.PluginError) as error:
        plugins.check_environment("maze")
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_tasks_of_categories_that_the_environment_does_not_name_are_refused(own: Path) -> None:
    spec = plugins.environment("maze")
    task = Task("maze-dev-0", "maze", "dev", "left", "get out", {"wants": "walk", "goal": "gate"})
    check_tasks(spec, "dev", [task])
    with pytest.raises(CellError) as error:
        check_tasks(spec, "dev", [task, replace(task, task_id="maze-dev-1", category="up")])
    assert str(error.value) == "maze-dev-1 (panel 'dev') has category 'up', maze has left, right"
