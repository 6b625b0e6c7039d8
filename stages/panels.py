"""The `panels` stage: settings -> data/panels/<env>/, the frozen tasks that everything else stands on.

python -m stages.panels --env alfworld
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.envs.base import EnvironmentFault
from stages.envs.panel import PanelError
from stages.envs.registry import CACHE
from stages.core.params import Panels, SettingsError, load
from stages.core.process import die_with_parent

PANELS = Path("data/panels")
DOWNLOADS = CACHE / "downloads"


def main() -> int:
    """Run the stage; 1 and one line on stderr when the panels cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m stages.panels", description="Build the frozen task panels.")
    parser.add_argument("--env", required=True, choices=["alfworld", "webshop"])
    env: str = parser.parse_args().env
    die_with_parent()
    try:
        build(load().panels, env)
    except (SettingsError, PanelError, EnvironmentFault) as error:
        print(f"panels: {error}", file=sys.stderr)
        return 1
    return 0


def build(panels: Panels, env: str) -> None:
    """Build one environment's panels; only its own code is imported."""
    if env == "alfworld" and panels.alfworld.source == "official":
        from stages.panelling.alfworld.official_panels import build_panels as build_official

        build_official(panels.alfworld, PANELS / env, CACHE / env, DOWNLOADS)
    elif env == "alfworld":
        from stages.panelling.alfworld.panels import build_panels as build_alfworld

        build_alfworld(panels.alfworld, PANELS / env, CACHE / env)
    else:
        from stages.panelling.webshop.panels import build_panels as build_webshop

        build_webshop(panels.webshop, PANELS / env)


if __name__ == "__main__":
    sys.exit(main())
