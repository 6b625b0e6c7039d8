"""The `hints` stage: the base agent's failures on the train panel -> hints -> gate -> bank.

    python -m stages.hints --cell alfworld_react

Reads data/rollouts/<cell>/episodes.parquet, the environment's panels (of the measured ones the names alone, see `stages.hinting.gate`), and what people
changed (`hints.curated`). Writes the tables of `Tables`, bank.md (the bank for people) and writer.json (who wrote the hints, and what of a failure it
read) to data/hints/<cell>/, all or nothing. A failure of the machine teaches nothing and is skipped; an agent without failures leaves empty tables,
which is an error in a later round alone.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from tqdm import tqdm

from stages.core import plugins
from stages.core.files import replacing
from stages.core.params import Settings, load
from stages.core.process import Fault, run_stage
from stages.core.records import SCHEMA_VERSION, Answer, BankEntry, Episode, Hint, Opening, Rejection, read, write
from stages.core.sections import Before
from stages.envs.base import Environment, Task
from stages.envs.panel import load_panel, panel_names
from stages.envs.registry import make
from stages.hinting import gate
from stages.hinting.bank import build_bank
from stages.hinting.base import Failure, HintRules, ProbeRecord, Written, hint_of, rules_of
from stages.hinting.contrast import beside
from stages.hinting.curated import Rules, curate, read_curation
from stages.hinting.page import bank_page

DATA = Path("data")
PANEL = "train"


class HintError(Fault, ValueError):
    """The episodes are not the base agent's play of the train panel as it stands."""


@dataclass(frozen=True)
class Tables:
    """What the stage makes of a cell's episodes: a table each, by its file's name."""

    hints: Sequence[Hint]
    bank: Sequence[BankEntry]
    probes: Sequence[ProbeRecord]
    openings: Sequence[Opening]
    rejected: Sequence[Rejection]
    answers: Sequence[Answer]


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
    check_round(study.before, failed)
    rules = rules_of(cell.env)
    curated, limits = Path(settings.curated), Rules(cell, categories(cell.env, tasks), settings.max_chars)
    curation = read_curation(curated, limits)  # before anything is paid for
    # Without failures nothing is probed, so no engine need start.
    env = make(cell.env, panels) if failed and settings.probing and rules.probe else None
    tried = probe_all(failed, tasks, env, rules, settings.probing)
    made, basis = learn([*beside(failed, tried, episodes, settings.evidence)], episodes, rules, study, panels)
    made = replace(made, bank=curate(made.bank, curation, curated, limits))
    page = bank_page(cell, made.bank, made.hints, settings.curated)
    write_all(DATA / "hints" / cell, made, {"writer": settings.writer, "basis": basis}, page)
    return f"{cell}: {summary(failed, made)}"


def check_round(before: Before | None, failed: Sequence[Episode]) -> None:
    """Raise `HintError` when a later round's base failed at nothing: a round learns from failures."""
    if before and not failed:
        raise HintError(
            f"{before.student} failed at no train task, so a round after it has nothing to learn from; it is the last one, or give panels more train tasks"
        )


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


def categories(env: str, tasks: Sequence[Task]) -> Sequence[str]:
    """What hints may be filed under: the environment's categories, or those of its train tasks where it names none."""
    return plugins.environment(env).categories or sorted({task.category for task in tasks})


def learn(
    failed: Sequence[Failure], episodes: Sequence[Episode], rules: HintRules, study: Settings, panels: Path
) -> tuple[Tables, str]:
    """Hints of all failures, those that pass the gate in a bank; and what of a failure the writer read. `episodes` are all of the rollouts."""
    settings = study.hints
    by_id = {failure.episode.episode_id: failure.episode for failure in failed}
    written = checked(
        plugins.find("hinting/writers", settings.writer, "write")(failed, rules, study), settings.writer, by_id
    )
    hints, rejected = gate_of(episodes, rules, study, panels).passes(written.hints, by_id) if failed else ([], [])
    made = Tables(
        hints,
        build_bank(hints, settings.merge_ratio, rules.tiers),
        [failure.probe for failure in failed if failure.probe],
        [Opening(SCHEMA_VERSION, e.task_id, e.goal, e.opening) for e in episodes if not e.machine_failure],
        [*written.rejected, *rejected],
        written.answers,
    )
    return made, written.basis or rules.basis(settings)


def checked(written: object, writer: str, failed: Mapping[str, Episode]) -> Written:
    """What a writer made of the failures, by id. Raises `PluginError` where it is something else, or has a hint that belongs to none of them."""
    where = f"stages/hinting/writers/{writer}"
    if not isinstance(written, Written):
        raise plugins.PluginError(f"{where}: write returned {written!r:.80}, expected stages.hinting.base.Written")
    for hint in written.hints:
        episode = failed.get(getattr(hint, "episode_id", ""))
        if episode is None or hint != hint_of(episode, hint.rule, hint.text, hint.evidence):
            raise plugins.PluginError(
                f"{where}: {hint!r:.200} is no hint of a failure that it was given; make it with stages.hinting.base.hint_of"
            )
    return written


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


def write_all(folder: Path, made: Tables, writer: Mapping[str, str], page: str) -> None:
    """Write the tables, what is said of their writer, and the bank's page; `folder` is replaced as a whole."""
    kinds = {
        "hints": Hint,
        "bank": BankEntry,
        "probes": ProbeRecord,
        "openings": Opening,
        "rejected": Rejection,
        "answers": Answer,
    }
    with replacing(folder) as fresh:
        for table in fields(made):
            write(fresh / f"{table.name}.parquet", kinds[table.name], getattr(made, table.name))
        text = json.dumps({"schema_version": SCHEMA_VERSION, **writer}, indent=1)
        (fresh / "writer.json").write_text(text + "\n", encoding="utf-8")
        (fresh / "bank.md").write_text(page, encoding="utf-8")


def summary(failed: Sequence[Episode], made: Tables) -> str:
    """What the stage did, in one line."""
    if not failed:
        return "the agent failed at no task, so there is nothing to learn from; the bank is empty"
    outcomes = _counted(p.outcome for p in made.probes)
    steps = sum(p.steps_used for p in made.probes)
    said = f"{len(failed)} failures, {len(made.hints)} hints, {len(made.bank)} bank entries; "
    if made.rejected:
        said += f"rejected: {_counted(r.reason for r in made.rejected)}; "
    if made.answers:
        tokens = sum(a.prompt_tokens + a.reply_tokens for a in made.answers)
        said += f"{sum(a.calls for a in made.answers)} answers, {tokens:,} tokens; "
    return f"{said}probes: {outcomes or 'off'}, {steps} steps"


def _counted(names: Iterator[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(Counter(names).items()))


if __name__ == "__main__":
    sys.exit(main())
