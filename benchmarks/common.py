"""What the benchmarks share: the results file, the machine, the base model, tables, and runs in a process of their own.

All commands are run from the project's root: `python benchmarks/NAME.py`. Each replaces its own sections of a results file and leaves the
others. Each kind of processor has a file of its own (results-avx2.json, ...), for their figures do not belong in one table. The processor
should have nothing else to do.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from stages.core.files import atomic
from stages.core.params import Engine
from stages.core.process import Fault
from stages.engines import cpu
from stages.models.manifest import BASE, model_folder

CAPABILITY = torch.backends.cpu.get_cpu_capability()
RESULTS = Path(__file__).with_name(f"results-{CAPABILITY.lower()}.json")
SCHEMA_VERSION = 1

Result = TypeVar("Result")


def faults_in_one_line(main: Callable[[], None], *others: type[Exception]) -> int:
    """Run a benchmark; 1 and one line on stderr when it meets a `Fault`, or one of the `others` that its helpers raise."""
    try:
        main()
    except (Fault, *others) as fault:
        print(f"{Path(sys.argv[0]).stem}: {fault}", file=sys.stderr)
        return 1
    return 0


def base_model() -> Path:
    """The base model's folder; ends the program when there is none."""
    if not (BASE / "identity.json").is_file():
        raise SystemExit(f"{BASE}: no model there; run `dvc repro base` in the project's root, then this again")
    return model_folder()


def number_format(engine: Engine) -> torch.dtype:
    """The embedded engine's number format on this machine under these settings; the baseline is given the same."""
    return cpu.number_format(engine.dtype)


def config_of(model: Path) -> Any:
    """A model's configuration, as transformers reads it."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(model)


def machine() -> dict[str, Any]:
    """Processor, cores, memory in GB, and the versions that decide how fast matrix products are."""
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "capability": CAPABILITY,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def peak_memory_mb(process: int | Literal["self"] = "self") -> float:
    """Peak resident memory of a process in MB. Linux; getrusage(2) would count that of the process which started this one too."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    [line] = [row for row in status.splitlines() if row.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def record(sections: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any], path: Path = RESULTS) -> None:
    """Replace sections of the results file, each with the commit and the settings that it was run with.

    Raises `ValueError` for a file that is no results file of this schema: it is not overwritten.
    """
    from stages.metrics import git_commit

    results: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    if path.exists():
        try:
            results = json.loads(path.read_text(encoding="utf-8"))
            found = results["schema_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: expected benchmark results, found something else ({error!r}); move it away"
            ) from error
        if found != SCHEMA_VERSION:
            raise ValueError(f"{path}: expected schema_version {SCHEMA_VERSION}, found {found}; move it away")
    origin = {"git_commit": git_commit(), "settings": dict(settings)}
    results |= {"machine": machine()} | {name: {**facts, **origin} for name, facts in sections.items()}
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(_rounded(results), indent=1) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Floats to four significant digits, which is more than any of these figures is good for."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of the same keys as a table."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}")
    for first, *others in cells:
        columns = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        print("  ".join([f"{first:<{widths[0]}}", *columns]), flush=True)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def alone(function: Callable[..., Result], *arguments: Any) -> Result:
    """What a function returns in a fresh process of its own: its peak memory is its own, and what it patches stays there."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def best_seconds(call: Callable[[], Any], least: float = 0.5) -> float:
    """The shortest of the calls that fit into `least` seconds, after one that is not counted."""
    call()
    times: list[float] = []
    while sum(times) < least:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
