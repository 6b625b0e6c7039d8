"""What every stage does about its own process: its options, its lines on the terminal, its end."""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

ROOT_FILE = Path("dvc.yaml")
_PR_SET_PDEATHSIG = 1
_LIBRARIES = r"(transformers|trl|peft|accelerate|torch|datasets|mlflow|alembic|bitsandbytes)\b"


class Fault(Exception):
    """Something that whoever runs the project can mend: the message says what was found where, and what to do."""


def run_stage(name: str, does: str, run: Callable[..., str], *options: str) -> int:
    """The entry of a stage: reads `options` (each `--option VALUE`; `seed` is a number, 0 if left out), says what the stage does, and what came of it.

    Returns 1, with the fault on stderr in place of a result, when something the stage needs is missing or broken.
    """
    parser = argparse.ArgumentParser(prog=f"python -m stages.{name}", description=does)
    for option in options:
        if option == "seed":
            parser.add_argument("--seed", type=int, default=0)
        else:
            parser.add_argument(f"--{option}", required=True)
    values = vars(parser.parse_args())
    die_with_parent()
    hush_libraries()
    try:
        check_root()
        print(f"{' '.join([name, *map(str, values.values())])}: {does}", flush=True)
        print(f"{name}: {run(**values)}", flush=True)
    except Fault as fault:
        print(f"{name}: {fault}", file=sys.stderr)
        return 1
    return 0


def check_root() -> None:
    """Raise `Fault` in a folder that is not the project's root: all paths count from there."""
    if not ROOT_FILE.is_file():
        raise Fault(f"{Path.cwd()} has no {ROOT_FILE}: start this in the project's root")


def hush_libraries() -> None:
    """Keep libraries' notes on their own future off the terminal: nobody who runs a stage can act on them."""
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category, module=_LIBRARIES)
    # It misses an optional kernel of its own at every import, also where nothing is quantised.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def die_with_parent() -> None:
    """End this process when the one that started it is killed, so that no orphan goes on writing a stage's outputs.

    Linux only (prctl(2), PR_SET_PDEATHSIG); elsewhere the journal's lock still keeps a second writer out.
    """
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
