"""The `hints` stage: the base agent's failures on the train panel -> hints -> gate -> bank.

    python -m stages.hints --cell alfworld_react

Reads data/rollouts/<cell>/episodes.parquet and the environment's panels (of the measured ones the names alone, see `stages.hinting.gate`). Writes
hints.parquet, bank.parquet, probes.parquet, rejected.parquet, answers.parquet and writer.json (who wrote the hints, and what of a failure it read) to
data/hints/<cell>/, all or nothing. A failure of the machine teaches nothing and is skipped; an agent without failures leaves empty tables, which is
no error.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from stages.core import plugins
from stages.core.files import replacing
from stages.core.params import Settings, load
from stages.core.process import Fault, run_stage
from stages.core.records import SCHEMA_VERSION, Answer, BankEntry, Episode, Hint, Rejection, read, write
from stages.envs.base import Environment, Task
from stages.envs.panel import load_panel, panel_names
from stages.envs.registry import make
from stages.hinting import gate
from stages.hinting.bank import build_bank
from stages.hinting.base import Failure, HintRules, ProbeRecord, Written, rules_of
from stages.hinting.contrast import beside

DATA = Path("data")
PANEL = "train"


class HintError(Fault, ValueError):
    """The episodes are not the base agent's play of the train panel as it stands."""


@dataclass(frozen=True)
class Outcome:
    """All that the stage writes."""

    hints: Sequence[Hint]
    bank: Sequence[BankEntry]
    probes: Sequence[ProbeRecord]
    rejected: Sequence[Rejection]
    answers: Sequence[Answer]
    basis: str


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
    # Without failures nothing is probed, so no engine need start.
    env = make(cell.env, panels) if failed and settings.probing and rules.probe else None
    tried = probe_all(failed, tasks, env, rules, settings.probing)
    found = learn([*beside(failed, tried, episodes, settings.evidence)], episodes, rules, study, panels)
    write_all(DATA / "hints" / cell, found, settings.writer)
    return f"{cell}: {summary(failed, found)}"


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


def probe_all(
    failed: Sequence[Episode], tasks: Sequence[Task], env: Environment | None, rules: HintRules, steps: int
) -> dict[str, ProbeRecord]:
    """What a probe of every failed task found, by episode; nothing where `env` is None. Raises `HintError` for an unknown task."""
    by_id = {task.task_id: task for task in tasks}
    for episode in failed:
        if episode.task_id not in by_id:
            raise HintError(
                f"episode {episode.episode_id} is of task {episode.task_id!r}, which the panel does not have"
            )
    if env is None or rules.probe is None:
        return {}
    bar = tqdm(failed, desc="probes", unit="failure", disable=None)
    return {e.episode_id: rules.probe(env, by_id[e.task_id], e, steps) for e in bar}


def learn(
    failed: Sequence[Failure], episodes: Sequence[Episode], rules: HintRules, study: Settings, panels: Path
) -> Outcome:
    """Hints of all failures, those that pass the gate in a bank. `episodes` are all of the rollouts."""
    settings = study.hints
    written: Written = plugins.find("hinting/writers", settings.writer, "write")(failed, rules, study)
    by_id = {failure.episode.episode_id: failure.episode for failure in failed}
    hints, rejected = gate_of(episodes, rules, study, panels).passes(written.hints, by_id) if failed else ([], [])
    return Outcome(
        hints,
        build_bank(hints, settings.merge_ratio, rules.tiers),
        [failure.probe for failure in failed if failure.probe],
        [*written.rejected, *rejected],
        written.answers,
        written.basis or rules.basis(settings),
    )


def gate_of(episodes: Sequence[Episode], rules: HintRules, study: Settings, panels: Path) -> gate.Gate:
    """The gate of one environment's hints, as the train panel's episodes and the settings have it."""
    settings, env = study.hints, episodes[0].env
    return gate.Gate(
        settings.max_chars,
        settings.per_failure[env],
        gate.deeds(episodes, rules.deeds),
        gate.foreign(measured_names(env, rules, panels), episodes),
    )


def measured_names(env: str, rules: HintRules, panels: Path) -> Iterator[str]:
    """What the tasks of all panels but the train panel call their things."""
    for panel in panel_names(panels):
        if panel == PANEL:
            continue
        tasks, _ = load_panel(panels, panel)
        if rules.names is not None:
            yield from rules.names(tasks, panels)
            continue
        for task in tasks:
            yield from (name for key in plugins.environment(env).same_goal if isinstance(name := task.spec[key], str))


def write_all(folder: Path, found: Outcome, writer: str) -> None:
    """Write the tables and what is said of their writer; `folder` is replaced as a whole."""
    tables: Mapping[str, tuple[type, Sequence[object]]] = {
        "hints": (Hint, found.hints),
        "bank": (BankEntry, found.bank),
        "probes": (ProbeRecord, found.probes),
        "rejected": (Rejection, found.rejected),
        "answers": (Answer, found.answers),
    }
    with replacing(folder) as fresh:
        for name, (kind, rows) in tables.items():
            write(fresh / f"{name}.parquet", kind, rows)
        text = json.dumps({"schema_version": SCHEMA_VERSION, "writer": writer, "basis": found.basis}, indent=1)
        (fresh / "writer.json").write_text(text + "\n", encoding="utf-8")


def summary(failed: Sequence[Episode], found: Outcome) -> str:
    """What the stage did, in one line."""
    if not failed:
        return "the agent failed at no task, so there is nothing to learn from; the bank is empty"
    outcomes = _counted(p.outcome for p in found.probes)
    steps = sum(p.steps_used for p in found.probes)
    said = f"{len(failed)} failures, {len(found.hints)} hints, {len(found.bank)} bank entries; "
    if found.rejected:
        said += f"rejected: {_counted(r.reason for r in found.rejected)}; "
    if found.answers:
        tokens = sum(a.prompt_tokens + a.reply_tokens for a in found.answers)
        said += f"{sum(a.calls for a in found.answers)} answers, {tokens:,} tokens; "
    return f"{said}probes: {outcomes or 'off'}, {steps} steps"


def _counted(names: Iterator[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(Counter(names).items()))


if __name__ == "__main__":
    sys.exit(main())
