"""Do servers hold every answer to the JSON schema of hints? The base model, which left alone writes little JSON, is asked for the hints of real failures.

    python benchmarks/structured.py llama.cpp vllm

asks each server for the hints of 100 failures of the default study's agents, half of each environment, and records in structured.json how many answers were
read at once, mended by asking again, and broken. It needs the outputs of `dvc repro hints`; for llama.cpp `pip install xllamacpp`, for vLLM the environment
that benchmarks/vllm_cpu.py makes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from candidates.servers import Room, check, started
from common import base_model, faults_in_one_line, record, show

from stages.core.params import Settings, load
from stages.core.process import Fault
from stages.core.records import Episode, read
from stages.hinting import asking
from stages.hinting.base import Failure, ProbeRecord, rules_of
from stages.hinting.contrast import beside
from stages.hinting.writers import llm

RESULTS = Path(__file__).with_name("structured.json")
FAILURES, CONTEXT, SLOTS = 100, 8192, 4


@dataclass(frozen=True)
class Counts:
    """Of one server: failures asked about, answers read at once, after one repair, never; traces shown without their middle; seconds."""

    failures: int
    at_once: int
    mended: int
    broken: int
    elided: int
    seconds: float


def failures(study: Settings, most: int) -> list[list[Failure]]:
    """Failures on the train panel, of each cell alike (one at least), with all evidence beside them; nothing of a cell without failures.

    Raises `Fault` where no cell has any.
    """
    found, share = [], max(1, most // len(study.axes.cells))
    for cell in study.axes.cells:
        episodes = read(Path(f"data/rollouts/{cell}/episodes.parquet"), Episode)
        probes = {p.episode_id: p for p in read(Path(f"data/hints/{cell}/probes.parquet"), ProbeRecord)}
        lost = [e for e in episodes if not e.success and not e.machine_failure][:share]
        if lost:
            found.append([*beside(lost, probes, episodes, ["probe", "contrast"])])
    if not found:
        raise Fault("data/rollouts: no agent failed at a train task, so there is nothing to ask about")
    return found


def ask(url: str, study: Settings, asked: Sequence[Sequence[Failure]]) -> Counts:
    """What the server at `url` answers; no answer of an earlier run counts."""
    reached = {"url": url, "slots": SLOTS, "context": CONTEXT, "timeout": 600.0, "key_variable": "NO_SUCH_KEY"}
    hints = study.hints.model_copy(update={"llm": study.hints.llm.model_copy(update=reached)})
    told = study.model_copy(update={"hints": hints})
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        asking.ANSWERS = Path(folder)
        answers = [a for of_cell in asked for a in llm.write(of_cell, rules_of(of_cell[0].episode.env), told).answers]
    read_ones = [a for a in answers if a.outcome in ("hints", "none")]
    at_once = sum(a.calls == 1 for a in read_ones)
    return Counts(
        len(answers),
        at_once,
        len(read_ones) - at_once,
        len(answers) - len(read_ones),
        sum(a.elided > 0 for a in answers),
        time.monotonic() - start,
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="+", help="llama.cpp, vllm, or the address of one that serves the base model")
    parser.add_argument("--failures", type=int, default=FAILURES)
    arguments = parser.parse_args()
    if arguments.failures < 1:
        parser.error(f"--failures: expected 1 or more, found {arguments.failures}")
    for name in arguments.servers:
        check(name)
    study, model = load(), base_model()
    asked, found = failures(study, arguments.failures), {}
    for name in arguments.servers:
        if name.startswith("http"):
            found[name] = ask(name, study, asked)
            continue
        with started(name, model, Room(SLOTS, CONTEXT, torch.get_num_threads(), torch.float32)) as running:
            found[name] = ask(running.url, study, asked)
    record(
        {name: asdict(counts) for name, counts in found.items()}, {"max_tokens": study.hints.llm.max_tokens}, RESULTS
    )
    show("Answers held to the schema of hints", [{"server": n, **asdict(counts)} for n, counts in found.items()])


if __name__ == "__main__":
    sys.exit(faults_in_one_line(main, RuntimeError, OSError))
