"""Stage `panels`: settings -> data/panels/<env>/, the frozen tasks that everything else stands on."""

from __future__ import annotations

import argparse
from pathlib import Path

from stages.params import load

PANELS = Path("data/panels")
CACHE = Path(".cache")  # outside the stage's outputs: what can be made anew, kept between runs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.panels", description=__doc__)
    parser.add_argument("--env", required=True, choices=["alfworld"])
    env: str = parser.parse_args().env
    settings = load().panels[env]
    if env == "alfworld":
        from stages.envs.alfworld.panels import build_panels

        build_panels(settings, PANELS / env, CACHE / env)


if __name__ == "__main__":
    main()
