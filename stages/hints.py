"""The `hints` stage: the base agent's failures on the train panel -> hints -> bank.

    python -m stages.hints --cell alfworld_react

Reads data/rollouts/<cell>/episodes.parquet, the environment's panels, and what people changed (`hints.curated`). Writes hints.parquet,
bank.parquet, bank.md (the bank for people), probes.parquet, openings.parquet (what the train tasks say at their start) and writer.json (who wrote the hints, and what of a failure it read) to
data/hints/<cell>/, all or nothing. A failure of the machine
teaches nothing and is skipped; an agent without failures leaves empty tables, which is no error.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from stages.core import plugins
from stages.core.files import replacing
from stages.core.params import Hints, load
from stages.core.process import Fault, run_stage
from stages.core.records import SCHEMA_VERSION, BankEntry, Episode, Hint, Opening, read, write
from stages.envs.base import Environment, Task
from stages.envs.panel import load_panel
from stages.envs.registry import make
from stages.hinting.bank import build_bank
from stages.hinting.base import HintRules, ProbeRecord, rules_of
from stages.hinting.curated import Rules, curate, read_curation
from stages.hinting.page import bank_page

DATA = Path("data")
PANEL = "train"


class HintError(Fault, ValueError):
    """The episodes are not the base agent's play of the train panel as it stands."""


def main() -> int:
    """Run the stage; 1 and one line on stderr when its inputs are unusable."""
    return run_stage("hints", "draws hints from failed episodes", run, "cell")


def run(cell: str) -> str:
    """Probe the failed tasks where the environment's rules can, write hints and bank, and say what came of it."""
    study = load()
    settings, cell = study.hints, study.cell(cell)
    source, panels = DATA / "rollouts" / cell / "episodes.parquet", DATA / "panels" / cell.env
    tasks, sha256 = load_panel(panels, PANEL)
    episodes = read(source, Episode)
    failed = failures(episodes, sha256, str(source))
    rules = rules_of(cell.env)
    curated, limits = Path(settings.curated), Rules(cell, categories(cell.env, tasks), settings.max_chars)
    curation = read_curation(curated, limits)  # before anything is probed
    # Without failures nothing is probed, so no engine need start.
    env = make(cell.env, panels) if failed and settings.probe_steps and rules.probe else None
    hints, probes = learn(failed, tasks, env, rules, settings)
    bank = curate(build_bank(hints, settings.merge_ratio, rules.tiers), curation, curated, limits)
    page = bank_page(cell, bank, hints, settings.curated)
    said = {"writer": settings.writer, "basis": rules.basis(settings)}
    openings = [Opening(SCHEMA_VERSION, e.task_id, e.goal, e.opening) for e in episodes if not e.machine_failure]
    write_all(DATA / "hints" / cell, Tables(hints, bank, probes, openings), said, page)
    return f"{cell}: {summary(failed, hints, bank, probes)}"


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


def categories(env: str, tasks: Sequence[Task]) -> Sequence[str]:
    """What hints may be filed under: the environment's categories, or those of its train tasks where it names none."""
    return plugins.environment(env).categories or sorted({task.category for task in tasks})


def learn(
    failed: Sequence[Episode], tasks: Sequence[Task], env: Environment | None, rules: HintRules, settings: Hints
) -> tuple[list[Hint], list[ProbeRecord]]:
    """Probe every failed task (unless `env` is None) and write its hints. Raises `HintError` for an unknown task."""
    write_hints = plugins.find("hinting/writers", settings.writer, "write")
    by_id = {task.task_id: task for task in tasks}
    hints: list[Hint] = []
    probes: list[ProbeRecord] = []
    for episode in tqdm(failed, desc="hints", unit="failure", disable=None):
        if episode.task_id not in by_id:
            raise HintError(
                f"episode {episode.episode_id} is of task {episode.task_id!r}, which the panel does not have"
            )
        tried = rules.probe(env, by_id[episode.task_id], episode, settings.probe_steps) if env and rules.probe else None
        if tried is not None:
            probes.append(tried)
        hints += write_hints(episode, tried, rules, settings)
    return hints, probes


@dataclass(frozen=True)
class Tables:
    """What the stage makes of a cell's episodes."""

    hints: Sequence[Hint]
    bank: Sequence[BankEntry]
    probes: Sequence[ProbeRecord]
    openings: Sequence[Opening]


def write_all(folder: Path, tables: Tables, writer: Mapping[str, str], page: str) -> None:
    """Write the tables, what is said of their writer, and the bank's page; `folder` is replaced as a whole."""
    with replacing(folder) as fresh:
        write(fresh / "hints.parquet", Hint, tables.hints)
        write(fresh / "bank.parquet", BankEntry, tables.bank)
        write(fresh / "probes.parquet", ProbeRecord, tables.probes)
        write(fresh / "openings.parquet", Opening, tables.openings)
        text = json.dumps({"schema_version": SCHEMA_VERSION, **writer}, indent=1)
        (fresh / "writer.json").write_text(text + "\n", encoding="utf-8")
        (fresh / "bank.md").write_text(page, encoding="utf-8")


def summary(
    failed: Sequence[Episode], hints: Sequence[Hint], bank: Sequence[BankEntry], probes: Sequence[ProbeRecord]
) -> str:
    """What the stage did, in one line."""
    if not failed:
        return "the agent failed at no task, so there is nothing to learn from; the bank is empty"
    outcomes = ", ".join(f"{name} {count}" for name, count in sorted(Counter(p.outcome for p in probes).items()))
    steps = sum(p.steps_used for p in probes)
    return (
        f"{len(failed)} failures, {len(hints)} hints, {len(bank)} bank entries; "
        f"probes: {outcomes or 'off'}, {steps} steps"
    )


if __name__ == "__main__":
    sys.exit(main())
