"""The `panels` stage: settings -> data/panels/<env>/, the frozen tasks that everything else stands on.

    python -m stages.panels --env alfworld

An environment's maker (`EnvSpec.panels`) is called with its settings, the folder to write, a folder for what it can make anew, and how many
tasks of each panel are wanted at most (None: all). It writes tasks.parquet and panels.json, and whatever files the tasks name. What two panels
have in common all the same is counted in overlaps.json, which is not there where they share nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from stages.core import plugins
from stages.core.files import CACHE, replacing
from stages.core.params import load
from stages.core.process import run_stage
from stages.envs.panel import PanelError, load_panel, panel_names
from stages.panelling.overlaps import write_overlaps

PANELS = Path("data/panels")


def main() -> int:
    """Run the stage; 1 and one line on stderr when the panels cannot be built."""
    return run_stage("panels", "freezes the tasks", run, "env")


def run(env: str, folder: Path = PANELS) -> str:
    """Build one environment's panels; an earlier folder is replaced only when all went well. Returns their sizes."""
    plugins.check_environment(env)
    settings = load()
    limit: Mapping[str, int | None] = settings.limit
    with replacing(folder / env) as fresh:
        plugins.resolve(plugins.environment(env).panels)(settings.panels[env], fresh, CACHE / env, limit)
        panels = {name: load_panel(fresh, name)[0] for name in panel_names(fresh)}
        sizes = {name: len(tasks) for name, tasks in panels.items()}
        for name, size in sizes.items():
            most = limit.get(name)
            if most is not None and size > most:
                raise PanelError(f"{env}: its maker gave panel {name!r} {size} tasks, where limit.{name} is {most}")
        write_overlaps(fresh, env, panels, plugins.environment(env).asks)
    return f"{env}: " + ", ".join(f"{name} {size}" for name, size in sizes.items())


if __name__ == "__main__":
    sys.exit(main())
