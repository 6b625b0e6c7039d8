"""CPU engines compared on agents' work: the embedded engine, and what could stand in its place.

    python benchmarks/alternatives.py [--conversations 32] [--turns 12] [--threads 2] [--only NAME ...]

Each candidate plays the same recorded conversations (`candidates/work.py`) in a process of its own, one after the other, with the same weights
and number of threads, in the number format of params.yaml (GGUF files: as named). Beside them stands the speed of int8 matrix products. Writes
benchmarks/alternatives.json.

It needs the outputs of `dvc repro base demos`, and for the candidates that are no part of the project `pip install xllamacpp openvino-genai
openvino-tokenizers`: one that is not installed is named so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from candidates import engines, matmul, models, work
from candidates.engines import GGUF_KINDS, Files
from common import base_model, number_format, peak_memory_mb, record, show

from stages.core.params import load

OUT = Path(__file__).with_suffix(".json")
LIMIT = 900  # seconds a candidate may take
REFERENCE = "transformers generate"

# Name: the package that it needs, how it is made.
CANDIDATES: dict[str, tuple[str, Callable[[Files], Any]]] = {
    "embedded engine": ("stages", engines.ours),
    REFERENCE: ("transformers", engines.Lockstep),
    "transformers static cache": ("transformers", lambda files: engines.Lockstep(files, static=True)),
    "transformers static compiled": ("transformers", lambda files: engines.Lockstep(files, static=True, compiled=True)),
    "transformers continuous": ("transformers", engines.Paged),
    **{
        f"llama.cpp {kind}": ("xllamacpp", lambda files, kind=kind: engines.LlamaCpp(files, kind))
        for kind in GGUF_KINDS
    },
    **{
        f"OpenVINO {kind}": ("openvino_genai", lambda files, kind=kind: engines.OpenVino(files, kind))
        for kind in GGUF_KINDS
    },
}
COLUMNS = {
    "wall_seconds": "wall s",
    "processor_seconds": "processor s",
    "reply_tokens_a_second": "replied/s",
    "tokens_a_second": "tokens/s",
    "tokens_a_processor_second": "tokens/processor s",
    "conversations_a_minute": "conversations/min",
    "peak_mb": "peak MB",
    "load_seconds": "load s",
    "same_first_replies": "same replies",
}


def main() -> None:
    args = _arguments()
    torch.set_num_threads(args.threads)
    if args.play:
        name, folder = args.play
        (Path(folder) / "result.json").write_text(json.dumps(_play(name, Path(folder), args)), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        models.never_ending(base_model(), folder / "model")
        for kind in GGUF_KINDS:
            models.gguf_file(folder / "model", kind, folder / f"{kind}.gguf")
        results: dict[str, dict[str, Any]] = {}
        for name in args.only:
            results[name] = _measure(name, folder, args)
            print(f"{name}: {results[name].get('none') or results[name]['wall_seconds']}", file=sys.stderr, flush=True)
    _compare(results)
    show("Engines on the same conversations", [_row(name, figures) for name, figures in results.items()])
    dtype = number_format(load().engine)
    products = matmul.measure(dtype)
    show(f"Matrix products, GFLOP/s: {dtype}, the same packed, int8", products)
    settings = {name: getattr(args, name) for name in ("conversations", "turns", "threads")}
    settings |= {"reply_tokens": work.REPLY, "dtype": str(dtype).removeprefix("torch.")}
    record({"engines": results, "products": {"rows": products}}, settings, OUT)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare CPU engines on recorded conversations.")
    parser.add_argument("--conversations", type=int, default=32)
    parser.add_argument("--turns", type=int, default=12, help="at most, a conversation")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES), metavar="NAME")
    parser.add_argument("--play", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One candidate's figures from a process of its own, or why there are none."""
    package = CANDIDATES[name][0]
    if importlib.util.find_spec(package) is None:
        return {"none": f"{package} is not installed"}
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--play", name, str(folder)]
    for number in ("conversations", "turns", "threads"):
        command += [f"--{number}", str(getattr(args, number))]
    threads = {"OMP_NUM_THREADS": str(args.threads)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=os.environ | threads)
    except subprocess.TimeoutExpired:
        return {"none": f"not done after {LIMIT} s"}
    if done.returncode != 0 or not result.exists():
        return {"none": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    figures: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return figures


def _play(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One candidate's figures, in this process."""
    gguf = {kind: folder / f"{kind}.gguf" for kind in GGUF_KINDS}
    files = Files(folder / "model", gguf, args.conversations, args.threads, number_format(load().engine))
    start = time.perf_counter()
    engine = CANDIDATES[name][1](files)
    loaded = time.perf_counter() - start
    # Not counted: kernels are compiled and chosen when they first see a shape.
    work.play(engine, work.recorded(args.conversations, 2, offset=1))
    done = work.play(engine, work.recorded(args.conversations, args.turns))
    if isinstance(engine, engines.Paged):
        engine.stop()
    tokens = done.encoded + done.written
    return asdict(done) | {
        "reply_tokens_a_second": done.written / done.wall_seconds,
        "tokens_a_second": tokens / done.wall_seconds,
        "tokens_a_processor_second": tokens / done.processor_seconds,
        "conversations_a_minute": 60 * len(done.first_replies) / done.wall_seconds,
        "load_seconds": loaded,
        "peak_mb": peak_memory_mb(),
    }


def _compare(results: dict[str, dict[str, Any]]) -> None:
    """Replace the first replies by the share of them that are word for word those of plain transformers."""
    expected = results.get(REFERENCE, {}).get("first_replies")
    for figures in results.values():
        replies = figures.pop("first_replies", None)
        if replies and expected:
            figures["same_first_replies"] = sum(map(str.__eq__, replies, expected)) / len(expected)


def _row(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    cells = {title: figures.get(key, "") for key, title in COLUMNS.items()}
    return {"engine": name, **cells, "": figures.get("none", "")}


if __name__ == "__main__":
    main()
