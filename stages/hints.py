"""The `hints` stage: the base agent's failures on the train panel -> hints -> bank.

    python -m stages.hints --env alfworld --agent react

Reads data/rollouts/<env>_<agent>/episodes.parquet and data/panels/<env>. Writes hints.parquet, bank.parquet and
probes.parquet to data/hints/<env>_<agent>/, all or nothing. A failure of the machine teaches nothing and is skipped; an
agent without failures leaves empty tables, which is no error.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from stages.envs.base import Environment, EnvironmentFault, Task
from stages.envs.panel import PanelError, load_panel
from stages.envs.registry import make
from stages.core.files import replacing
from stages.hinting.bank import build_bank
from stages.hinting.writers.rules import write_hints
from stages.hinting.alfworld.probe import ProbeRecord, probe
from stages.core.params import Hints, SettingsError, load, of_env
from stages.core.records import BankEntry, Episode, Hint, RecordError, read, write

DATA = Path("data")
PANEL = "train"
PROBED = ("alfworld",)  # in a shop the pages that were seen say what could have been done


class HintError(ValueError):
    """The episodes are not the base agent's play of the train panel as it stands."""


def main() -> int:
    """Run the stage; 1 and one line on stderr when its inputs are unusable."""
    parser = argparse.ArgumentParser(prog="python -m stages.hints", description="Draw hints from failed episodes.")
    parser.add_argument("--env", required=True)
    parser.add_argument("--agent", required=True)
    args = parser.parse_args()
    name = f"{args.env}_{args.agent}"
    source, panels = DATA / "rollouts" / name / "episodes.parquet", DATA / "panels" / args.env
    try:
        settings = load().hints
        tasks, sha256 = load_panel(panels, PANEL)
        failed = failures(read(source, Episode), sha256, str(source))
        # Without failures nothing is probed, so no engine need start.
        env = make(args.env, panels) if failed and settings.probe_steps and args.env in PROBED else None
        hints, probes = learn(failed, tasks, env, settings)
    except (SettingsError, PanelError, RecordError, HintError, EnvironmentFault) as error:
        print(f"hints: {error}", file=sys.stderr)
        return 1
    bank = build_bank(hints, settings.merge_ratio)
    write_all(DATA / "hints" / name, hints, bank, probes)
    print(summary(failed, hints, bank, probes))
    return 0


def failures(episodes: Sequence[Episode], sha256: str, where: str) -> list[Episode]:
    """The agent's own failures. Raises `HintError` for episodes of another panel than the train panel as it stands,
    since nothing may be learnt from tasks that a system is measured on."""
    for episode in episodes:
        if (episode.panel, episode.panel_sha256) != (PANEL, sha256):
            raise HintError(
                f"{where}: episode {episode.episode_id} was played on panel {episode.panel!r} (sha256 "
                f"{episode.panel_sha256[:12]}), hints come from {PANEL!r} ({sha256[:12]}) alone; rerun the rollouts"
            )
    return [e for e in episodes if not e.success and not e.machine_failure]


def learn(
    failed: Sequence[Episode], tasks: Sequence[Task], env: Environment | None, settings: Hints
) -> tuple[list[Hint], list[ProbeRecord]]:
    """Probe every failed game (unless `env` is None) and write its hints. Raises `HintError` for an unknown task."""
    by_id = {task.task_id: task for task in tasks}
    hints: list[Hint] = []
    probes: list[ProbeRecord] = []
    for episode in tqdm(failed, desc="hints", unit="failure", disable=None):
        if episode.task_id not in by_id:
            raise HintError(
                f"episode {episode.episode_id} is of task {episode.task_id!r}, which the panel does not have"
            )
        tried = probe(env, by_id[episode.task_id], episode, settings.probe_steps) if env else None
        if tried is not None:
            probes.append(tried)
        most = of_env(settings.per_failure, episode.env)
        hints += write_hints(episode, tried, settings.max_chars, most, settings.sees_parts)
    return hints, probes


def write_all(folder: Path, hints: Sequence[Hint], bank: Sequence[BankEntry], probes: Sequence[ProbeRecord]) -> None:
    """Write the three tables; `folder` is replaced as a whole."""
    with replacing(folder) as fresh:
        write(fresh / "hints.parquet", Hint, hints)
        write(fresh / "bank.parquet", BankEntry, bank)
        write(fresh / "probes.parquet", ProbeRecord, probes)


def summary(
    failed: Sequence[Episode], hints: Sequence[Hint], bank: Sequence[BankEntry], probes: Sequence[ProbeRecord]
) -> str:
    """What the stage did, in one line."""
    if not failed:
        return "hints: the agent failed at no task, so there is nothing to learn from; the bank is empty"
    outcomes = ", ".join(f"{name} {count}" for name, count in sorted(Counter(p.outcome for p in probes).items()))
    steps = sum(p.steps_used for p in probes)
    return (
        f"hints: {len(failed)} failures, {len(hints)} hints, {len(bank)} bank entries; "
        f"probes: {outcomes or 'off'}, {steps} steps"
    )


if __name__ == "__main__":
    sys.exit(main())
