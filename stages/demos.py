"""The `demos` stage: warm-up tasks -> data/demos/<env>/<agent>.parquet, demonstrations in each agent's format (committed to git).

    python -m stages.demos --env alfworld

An environment's demonstrator (`EnvSpec.demonstrations`) makes the warm-up tasks itself: it is called with its panel settings, the agents, how
demonstrations are drawn, and a folder for what it can make anew, and returns a list for each agent, and where `warmup.writing` asks for them a last
one of demonstrations of hint writing (hint_writing.parquet). With the warm-up off (instruct models) the tables are empty.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from stages import agents
from stages.core import plugins
from stages.core.files import CACHE, replacing
from stages.core.params import Settings, load
from stages.core.process import run_stage
from stages.core.records import HINT_WRITING, Demo, write
from stages.demonstrations.plan import Plan, Writing

DEMOS = Path("data/demos")


def main() -> int:
    """Run the stage; 1 and one line on stderr when its inputs are unusable."""
    return run_stage("demos", "demonstrates the warm-up tasks", run, "env")


def run(env: str, folder: Path = DEMOS) -> str:
    """Write a table for each agent that is warmed up in the environment, and that of hint writing; returns how many demonstrations of each kind there are."""
    plugins.environment(env)
    settings = load()
    with replacing(folder / env) as fresh:
        made = demonstrations(env, settings)
        for table, demos in made.items():
            write(fresh / f"{table}.parquet", Demo, demos)
    kinds = {table: dict(sorted(Counter(demo.kind for demo in demos).items())) for table, demos in made.items()}
    return f"{env}: " + ("; ".join(f"{table} {sum(k.values())} {k}" for table, k in kinds.items()) or "none")


def demonstrations(env: str, settings: Settings) -> dict[str, list[Demo]]:
    """All demonstrations of an environment, by table; none of a withheld skill."""
    warmup, names = settings.warmup, settings.warmup.agents(env)
    if not warmup.enabled or not names:
        return {name: [] for name in names}
    plan = Plan(
        seed=warmup.seed,
        withheld=warmup.hidden(env),
        hinted_share=warmup.hinted_share,
        nonce=warmup.nonce[env],
        subsample=warmup.subsample[env],
        recovery_share=warmup.recovery_share,
        writing=Writing(warmup.writing[env], settings.hints) if warmup.writing[env] else None,
    )
    demonstrate = plugins.resolve(plugins.environment(env).demonstrations)
    made = demonstrate(settings.panels[env], [agents.get(name, env) for name in names], plan, CACHE / env)
    return dict(zip([*names, HINT_WRITING] if plan.writing else names, made, strict=True))


if __name__ == "__main__":
    sys.exit(main())
