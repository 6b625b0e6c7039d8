"""All benchmarks, one after the other, into this kind of processor's results file.

    python benchmarks/run.py

Each command can be run alone, with options of its own. Stops at the first that fails.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from common import base_model

NAMES = ("limits", "environment", "decode", "training", "rollout", "scaling", "neighbour")


def main() -> None:
    base_model()
    for name in NAMES:
        start = time.monotonic()
        subprocess.run([sys.executable, Path(__file__).with_name(f"{name}.py")], check=True)
        print(f"-- {name}: {(time.monotonic() - start) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
