"""CPU engines compared on agents' work: the embedded engine, and what could stand in its place.

    python benchmarks/alternatives.py [--conversations 32] [--turns 12] [--threads 2] [--only NAME ...]

Each candidate plays the same recorded conversations (`candidates/work.py`) in a process of its own, one after the other, with the same weights
and number of threads, in bf16 where the processor has it and fp32 elsewhere (GGUF files: as named). Prints a table and writes
benchmarks/alternatives.json, together with the speed of int8 matrix products beside the number format's own.

It needs `dvc repro base demos@cell0` (the first of warmup.cells is ReAct on ALFWorld), and for the candidates that are no part of the project
`pip install xllamacpp openvino-genai openvino-tokenizers`; one that is not installed is named so. The processor should have nothing else to do;
`processor_seconds` tells if it had.
"""

from __future__ import annotations

import argparse
import importlib.metadata
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
from candidates.engines import Files

from stages.metrics import git_commit

OUT = Path(__file__).with_suffix(".json")
BASE = Path("data/base/model")
LIMIT = 3600  # seconds a candidate may take
REFERENCE = "transformers generate"

# Name, the package that it needs beyond the project's own, and how it is made.
CANDIDATES: dict[str, tuple[str, Callable[[Files], Any]]] = {
    "embedded engine": ("stages", engines.ours),
    REFERENCE: ("transformers", engines.Lockstep),
    "transformers static cache": ("transformers", lambda files: engines.Lockstep(files, static=True)),
    "transformers static compiled": ("transformers", lambda files: engines.Lockstep(files, static=True, compiled=True)),
    "transformers continuous batching": ("transformers", engines.Paged),
    "llama.cpp F16": ("xllamacpp", lambda files: engines.LlamaCpp(files, "F16")),
    "llama.cpp Q8_0": ("xllamacpp", lambda files: engines.LlamaCpp(files, "Q8_0")),
    "OpenVINO F16": ("openvino_genai", lambda files: engines.OpenVino(files, "F16")),
    "OpenVINO Q8_0": ("openvino_genai", lambda files: engines.OpenVino(files, "Q8_0")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare CPU engines on recorded conversations.")
    parser.add_argument("--conversations", type=int, default=32)
    parser.add_argument("--turns", type=int, default=12, help="at most, a conversation")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES), metavar="NAME")
    parser.add_argument("--play", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.play:
        name, folder = args.play
        result = _play(name, Path(folder), args)
        (Path(folder) / "result.json").write_text(json.dumps(result), encoding="utf-8")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        models.never_ending(BASE, folder / "model")
        for kind in ("F16", "Q8_0"):
            models.gguf_file(folder / "model", kind, folder / f"{kind}.gguf")
        results = {}
        for name in args.only:
            results[name] = _measure(name, folder, args)
            print(name, results[name].get("none", f"{results[name].get('wall_seconds', 0):.1f} s"), file=sys.stderr, flush=True)
    _compare(results)
    products = matmul.measure(args.threads, _number_format())
    _show(results, products)
    facts = {"machine": _machine(args.threads), "git_commit": git_commit()}
    settings = {"conversations": args.conversations, "turns": args.turns, "reply_tokens": work.REPLY}
    document = {"schema_version": 1, **facts, "settings": settings, "engines": results, "matrix_products": products}
    OUT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _play(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One candidate's figures, in this process."""
    files = Files(
        folder / "model",
        {kind: folder / f"{kind}.gguf" for kind in ("F16", "Q8_0")},
        args.conversations,
        args.threads,
        _number_format(),
    )
    recorded = work.recorded(args.conversations, args.turns)
    start = time.perf_counter()
    engine = CANDIDATES[name][1](files)
    load = time.perf_counter() - start
    work.play(engine, work.recorded(args.conversations, 2, offset=1))  # kernels are compiled and chosen at first sight of their shapes
    done = work.play(engine, recorded)
    return {
        "wall_seconds": done.wall,
        "processor_seconds": done.processor,
        "reply_tokens_a_second": done.written / done.wall,
        "tokens_a_second": (done.encoded + done.written) / done.wall,
        "tokens_a_processor_second": (done.encoded + done.written) / done.processor,
        "conversations_a_minute": 60 * len(recorded) / done.wall,
        "load_seconds": load,
        "peak_mb": _peak_mb(),
    } | asdict(done)


def _measure(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One candidate's figures from a process of its own, or why there are none."""
    if importlib.util.find_spec(CANDIDATES[name][0]) is None:
        return {"none": f"not installed: {CANDIDATES[name][0]}"}
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    numbers = ("conversations", "turns", "threads")
    command = [sys.executable, __file__, "--play", name, str(folder)]
    command += [word for number in numbers for word in (f"--{number}", str(getattr(args, number)))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT, env=os.environ | {"OMP_NUM_THREADS": str(args.threads)}
        )
    except subprocess.TimeoutExpired:
        return {"none": f"not done after {LIMIT} s"}
    if not result.exists():
        return {"none": f"failed: {(done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]}"}
    figures: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return figures


def _compare(results: dict[str, dict[str, Any]]) -> None:
    """Replace the first replies by the share of them that are word for word those of plain transformers."""
    expected = results.get(REFERENCE, {}).get("first_replies")
    for figures in results.values():
        replies = figures.pop("first_replies", None)
        if replies and expected:
            figures["same_first_replies"] = sum(a == b for a, b in zip(replies, expected, strict=True)) / len(expected)


def _show(results: dict[str, dict[str, Any]], products: list[dict[str, Any]]) -> None:
    columns = {
        "wall_seconds": "wall s",
        "processor_seconds": "proc. s",
        "reply_tokens_a_second": "replied/s",
        "tokens_a_second": "tokens/s",
        "conversations_a_minute": "conv./min",
        "peak_mb": "peak MB",
        "load_seconds": "load s",
        "same_first_replies": "same",
    }
    print(f"{'':34}" + "".join(f"{title:>11}" for title in columns.values()))
    for name, figures in results.items():
        cells = "".join(f"{figures[key]:11,.1f}" if key in figures else f"{'-':>11}" for key in columns)
        print(f"{name:34}" + figures.get("none", cells))
    print(f"\n{'GFLOP/s':34}" + "".join(f"{kind:>18}" for kind in matmul.KINDS))
    for row in products:
        shape = f"{row['rows']} x {row['inputs']} x {row['outputs']} ({row['layer']})"
        print(f"{shape:34}" + "".join(f"{row[kind]:18,.0f}" for kind in matmul.KINDS))


def _number_format() -> torch.dtype:
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16") else torch.float32


def _peak_mb() -> float:
    """Peak resident memory of this process; getrusage(2) would count that of the process which started it."""
    [line] = [row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def _machine(threads: int) -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = ("openvino-genai", "torch", "transformers", "xllamacpp")
    return {
        "cpu": next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "number_format": str(_number_format()).removeprefix("torch."),
        "versions": {name: _version(name) for name in names},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
