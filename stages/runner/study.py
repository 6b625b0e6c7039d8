"""One system on its panels: puts environment, agent, engine, hints and journal together, as the settings say."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.agents import get
from stages.core import plugins
from stages.core.files import atomic, code_sha256, replacing
from stages.core.params import Cell, Settings, load
from stages.core.process import Fault
from stages.core.records import Episode, write
from stages.engines import opening
from stages.engines.base import Engine
from stages.envs.base import Task
from stages.envs.panel import load_panel
from stages.envs.registry import category_reader, make
from stages.models.identity import base_name
from stages.models.manifest import BASE
from stages.retrieval.retriever import BY_RANK, open_retriever
from stages.runner.episodes import Play, play_tasks
from stages.runner.journal import Journal

DATA = Path("data")
JOURNALS = Path(".cache/journal")
TIMING = DATA / "timing"
PLAYING = ("agents", "engines", "envs", "models", "retrieval", "runner")


class StudyError(Fault, RuntimeError):
    """What a system needs is not there: says which file and what to do."""


@dataclass(frozen=True)
class System:
    """What plays. `retrieval` is the way hints are chosen (`stages.core.arms`) or "" for none; `adapter` a student's
    folder; `name` and `seed` stand in the records."""

    name: str
    retrieval: str = ""
    adapter: Path | None = None
    seed: int = 0


def open_engine(settings: Settings, cell: Cell, adapter: Path | None) -> Engine:
    """The engine that params.yaml names, with the base model and, for a student, its adapter; replies end where the agent's do."""
    return opening.open_engine(settings.engine, BASE, adapter, get(cell.agent, cell.env).stop)


def model_id(adapter: Path | None) -> str:
    """What identifies the model: source, template arguments and digest of the base, digest of the adapter. A server is taken at its word that what it
    serves under these names are these weights."""
    name = base_name(BASE)
    if adapter is None:
        return name
    weights = adapter / "adapter_model.safetensors"
    if not weights.is_file():
        raise StudyError(f"{weights}: no such file; run `dvc repro students`")
    return f"{name}+{hashlib.sha256(weights.read_bytes()).hexdigest()[:12]}"


class Runner:
    """Plays panels with one system of a cell; the engine is opened with the first panel."""

    def __init__(self, settings: Settings, cell: Cell, system: System) -> None:
        self.settings, self.cell, self.system = settings, cell, system
        self.env, self.agent = cell.env, cell.agent
        self.model = model_id(system.adapter)
        self.retriever = open_retriever(system.retrieval, cell, settings.hints, system.seed)
        self.category = category_reader(cell.env, settings.agent.category, DATA / "panels" / cell.env)
        self._engine: Engine | None = None
        self._journals: list[Journal] = []

    def play(self, *panels: str) -> tuple[dict[str, list[Episode]], dict[str, Any]]:
        """The episodes of each panel, and what the run took (not part of the records: it differs from run to run).

        The panels share one batch, which is narrow only once, at its end.
        """
        root = DATA / "panels" / self.env
        loaded = {name: load_panel(root, name) for name in panels}
        tasks = [task for panel, _ in loaded.values() for task in panel]
        for shortfall in self.retriever.shortfalls(Counter(map(self.category, tasks))):
            print(f"note: data/hints/{self.cell}/bank.parquet: {shortfall}", flush=True)
        hashes = {name: sha256 for name, (_, sha256) in loaded.items()}
        play = self.rules(hashes)
        with Journal(JOURNALS, self._identity(play), code_sha256(PLAYING)) as journal:
            self._journals.append(journal)
            resumed = len(journal.finished)
            player = self._player(play, root)
            start = time.monotonic()
            episodes = player(tasks, journal)
            seconds = time.monotonic() - start
        runs = {name: [e for e in episodes if e.panel == name] for name in panels}
        return runs, _run_facts(episodes, resumed, seconds)

    def _player(self, play: Play, root: Path) -> Callable[[list[Task], Journal], list[Episode]]:
        """What plays tasks where `runner.executor` says: this process, its engine opened, or the workers of a cluster."""
        settings, make_env = self.settings, functools.partial(make, self.env, root)
        agent = get(self.agent, self.env, settings.agent.reading)
        opener = functools.partial(open_engine, settings, self.cell, self.system.adapter)
        category, retriever = self.category, self.retriever
        if settings.runner.executor == "ray":
            cluster = plugins.resolve(
                "stages.cluster.ray"
            )  # by name: the cluster knows the runner, and not the reverse
            gpus = opening.gpus_of(settings.engine)
            cast = cluster.Cast(play, agent, opener, make_env, category, retriever, root)
            return lambda tasks, journal: cluster.play_on_ray(tasks, cast, journal, settings.runner.ray.workers, gpus)
        engine = self._engine = self._engine or opener()
        return lambda tasks, journal: play_tasks(tasks, play, agent, engine, make_env, category, retriever, journal)

    def rules(self, panels: dict[str, str]) -> Play:
        """What plays, by which limits; `panels` maps the names of the panels to their hashes."""
        settings, system = self.settings, self.system
        return Play(
            system=system.name,
            seed=system.seed,
            panels=panels,
            model=self.model,
            max_turns=settings.runner.max_turns[self.env],
            max_repeats=settings.runner.max_repeats,
            # Students have learnt what examples would show them.
            shots=0 if system.adapter else settings.agent.shots[self.env],
            corrections=settings.agent.corrections,
        )

    def write(self, folder: Path, stage: str, tables: dict[str, list[Episode]], facts: dict[str, Any]) -> None:
        """Write `<name>.parquet` for each table, all or nothing; what the run took goes to data/timing/, beside the stage's
        deterministic outputs. The journals have done their work then, and a later run plays anew."""
        with replacing(folder) as fresh:
            for name, episodes in tables.items():
                write(fresh / f"{name}.parquet", Episode, episodes)
        name = "_".join((stage, *folder.relative_to(DATA).parts[1:]))
        with atomic(TIMING / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        for journal in self._journals:
            journal.discard()

    def _identity(self, play: Play) -> dict[str, Any]:
        """All that determines an episode. Where a server is, how long it is waited for and how it names a student do not, its model's name does."""
        reading, way = self.settings.agent.reading, self.retriever.chosen_by
        return {
            "play": vars(play),
            "env": self.env,
            "agent": self.agent,
            "retrieval": self.system.retrieval,
            "bank": [(e.entry_id, e.text, e.rank) for e in self.retriever.bank],
            "k": self.settings.hints.k,
            "engine": self.settings.engine.model_dump(
                exclude={"server": {"url", "student", "key_variable", "timeout", "retries"}}
            ),
            "category": self.settings.agent.category,
            # Episodes are named by all this: what came later stands here only where it is another than it always was.
            **({} if reading == "loose" else {"reading": reading}),
            **({} if way == BY_RANK else {"way": way}),
        }


def _run_facts(episodes: list[Episode], resumed: int, seconds: float) -> dict[str, Any]:
    """Figures of one run; tokens and episodes a second only count what was not taken from the journal."""
    computed = sum(e.computed_tokens for e in episodes)
    return {
        "schema_version": 1,
        "episodes": len(episodes),
        "resumed": resumed,
        "successes": sum(e.success for e in episodes),
        "machine_failures": sum(bool(e.machine_failure) for e in episodes),
        "seconds": round(seconds, 1),
        "episodes_per_minute": round(60 * (len(episodes) - resumed) / seconds, 1) if seconds else 0.0,
        "computed_tokens": computed,
        "reply_tokens": sum(e.reply_tokens for e in episodes),
        "machine": platform.machine(),
    }


def play_train(cell: str, stage: str, system: System) -> str:
    """A system plays a cell's train panel -> data/<stage>/<cell>/episodes.parquet, or with hints data/<stage>/<cell>/<retrieval>/episodes.parquet;
    returns what came of it, in a line."""
    settings = load()
    runner = Runner(settings, settings.cell(cell), system)
    runs, facts = runner.play("train")
    runner.write(DATA / stage / cell / system.retrieval, stage, {"episodes": runs["train"]}, facts)
    return f"{cell}: {facts['successes']} of {facts['episodes']} tasks solved in {facts['seconds']} s"
