"""The `demos` stage: the warm-up panel -> data/demos/<env>_<agent>.parquet, demonstrations in the agent's format.

    python -m stages.demos --env alfworld --agent react

With the warm-up off (instruct models) the table is empty.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from stages.agents import get
from stages.envs.base import EnvironmentFault
from stages.envs.panel import PanelError, load_panel
from stages.envs.registry import make
from stages.core.params import Settings, SettingsError, load, of_env
from stages.core.records import Demo, write
from stages.demonstrations.alfworld import demos as household
from stages.demonstrations.webshop import demos as shop

DATA = Path("data")


def main() -> int:
    """Run the stage; 1 and one line on stderr when its inputs are unusable."""
    parser = argparse.ArgumentParser(prog="python -m stages.demos", description="Demonstrate the warm-up tasks.")
    parser.add_argument("--env", required=True)
    parser.add_argument("--agent", required=True)
    args = parser.parse_args()
    try:
        settings = load()
        demos = demonstrations(args.env, args.agent, settings)
    except (SettingsError, PanelError, EnvironmentFault) as error:
        print(f"demos: {error}", file=sys.stderr)
        return 1
    write(DATA / "demos" / f"{args.env}_{args.agent}.parquet", Demo, demos)
    print(f"demos: {len(demos)}: {dict(sorted(Counter(d.kind for d in demos).items()))}")
    return 0


def demonstrations(env: str, agent: str, settings: Settings) -> list[Demo]:
    """All demonstrations of one environment and agent; none of a withheld category."""
    warmup = settings.warmup
    if not warmup.enabled:
        return []
    root = DATA / "panels" / env
    tasks, _ = load_panel(root, "warmup")
    plan = household.Plan(
        warmup.seed,
        warmup.withheld.of(env),
        warmup.hinted_share,
        of_env(warmup.nonce, env),
        of_env(warmup.shown, env),
        warmup.recovery_share,
    )
    demonstrate = shop.demonstrate if env == "webshop" else household.demonstrate
    return demonstrate(make(env, root), tasks, get(agent), plan)


if __name__ == "__main__":
    sys.exit(main())
