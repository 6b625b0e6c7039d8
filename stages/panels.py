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
from stages.params import SettingsError, load
from stages.process import die_with_parent

PANELS = Path("data/panels")


def main() -> int:
    """Run the stage; 1 and one line on stderr when the panels cannot be built."""
    parser = argparse.ArgumentParser(prog="python -m stages.panels", description="Build the frozen task panels.")
    parser.add_argument("--env", required=True, choices=["alfworld"])
    env: str = parser.parse_args().env
    die_with_parent()
    try:
        from stages.envs.alfworld.panels import build_panels

        build_panels(load().panels.alfworld, PANELS / env, CACHE / env)
    except (SettingsError, PanelError, EnvironmentFault) as error:
        print(f"panels: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
