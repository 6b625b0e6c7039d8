"""The `cells` stage: what a cell stands on -> data/cells/<cell>/, checked before anything is played.

    python -m stages.cells --cell alfworld_react

play.json has the hashes of the panels and of the code of the environment and the agent, and the environment's own settings of play;
training.json is the recipe of the cell's students. DVC's matrices name a cell, not its environment: stages depend on these small files, so a
change in one environment's tasks, code, limits or recipe reruns that environment's cells, and another environment or agent reruns nothing of
them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages import agents
from stages.core import plugins
from stages.core.files import replacing
from stages.core.params import Cell, load
from stages.core.process import Fault, run_stage
from stages.core.spec import EnvSpec
from stages.envs.base import Task
from stages.envs.panel import load_panel, panel_names

DATA = Path("data")
CODE = (".py", ".json", ".yaml", ".txt", ".csv", ".cpp", ".h")  # what a plug-in may be made of


class CellError(Fault, ValueError):
    """An environment's tasks are not what it says of them."""


def main() -> int:
    """Run the stage; 1 and one line on stderr when the cell can't be played."""
    return run_stage("cells", "checks what a cell stands on", run, "cell")


def run(cell: str, data: Path = DATA) -> str:
    """Check a cell and write what it stands on; returns its panels' sizes."""
    settings = load()
    cell = settings.cell(cell)
    play = stands_on(cell, data / "panels" / cell.env, settings.panels[cell.env].measured)
    play |= {"shots": settings.agent.shots[cell.env], "max_turns": settings.runner.max_turns[cell.env]}
    training = settings.students[cell.env].model_dump(mode="json")
    with replacing(data / "cells" / cell) as fresh:
        for name, content in (("play", play), ("training", training)):
            text = json.dumps({"schema_version": 1, **content}, indent=1)
            (fresh / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return f"{cell}: " + ", ".join(f"{panel} {found['n']}" for panel, found in play["panels"].items())


def stands_on(cell: Cell, panels: Path, measured: Iterable[str]) -> dict[str, Any]:
    """Panels and code of a cell, by their hashes. Raises `CellError` for a panel that is missing, or tasks that the environment does not know."""
    plugins.check_environment(cell.env)
    agents.get(cell.agent, cell.env)
    loaded = {name: load_panel(panels, name) for name in panel_names(panels)}
    missing = [name for name in ("train", *measured) if name not in loaded]
    if missing:
        raise CellError(
            f"{panels} has no panel {missing[0]!r}, only {', '.join(loaded)}; its maker must write {', '.join(('train', *measured))}"
        )
    for name, (tasks, _) in loaded.items():
        check_tasks(plugins.environment(cell.env), name, tasks)
    return {
        "env": cell.env,
        "agent": cell.agent,
        "panels": {name: {"n": len(tasks), "sha256": sha256} for name, (tasks, sha256) in loaded.items()},
        "code": {"env": code_sha256("envs", cell.env), "agent": code_sha256("agents", cell.agent)},
    }


def check_tasks(spec: EnvSpec, panel: str, tasks: Iterable[Task]) -> None:
    """Raise `CellError` unless each task's category, skill and goal are such as the environment says it has."""
    for task in tasks:
        if spec.categories and task.category not in spec.categories:
            raise CellError(
                f"{task.task_id} (panel {panel!r}) has category {task.category!r}, {spec.name} has {', '.join(spec.categories)}"
            )
        if task.skill not in spec.skills:
            raise CellError(
                f"{task.task_id} (panel {panel!r}) has skill {task.skill!r}, {spec.name} has {', '.join(spec.skills)}"
            )
        lacking = [key for key in spec.same_goal if key not in task.spec]
        if lacking:
            raise CellError(
                f"{task.task_id} (panel {panel!r}) has no {lacking[0]!r}, by which {spec.name} tells goals apart"
            )


def code_sha256(folder: str, name: str) -> str:
    """Digest of a plug-in's files and of what all in its folder share, without those of the others."""
    others = set(plugins.names(folder)) - {name}
    digest = hashlib.sha256()
    for path in sorted((plugins.STAGES / folder).rglob("*")):
        part = path.relative_to(plugins.STAGES / folder)
        if (
            path.is_file()
            and path.suffix in CODE
            and not path.name.startswith(".")
            and part.parts[0].partition(".")[0] not in others
        ):
            digest.update(part.as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
