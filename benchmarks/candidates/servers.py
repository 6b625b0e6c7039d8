"""Servers of a base model on loopback, each a process of its own for as long as its block lasts.

`transformers` is `transformers serve` with continuous batching (needs the project's extra `dev`), `llama.cpp` its own server in a program of a
few lines, since PyPI has that only as a library (`pip install xllamacpp`), `vllm` the build for CPUs in the environment that `vllm_cpu` makes.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import torch
import vllm_cpu

from candidates.engines import PAGE, PASS
from candidates.models import gguf_file

MODEL = "local/base"
START_SECONDS = 180


@dataclass(frozen=True)
class Running:
    """A server that answers at `url` (which ends in /v1)."""

    url: str
    process: subprocess.Popen[bytes]


@dataclass(frozen=True)
class Room:
    """How many conversations a server holds at once, how many tokens each may have, and how it computes."""

    slots: int
    context: int
    threads: int
    dtype: torch.dtype


def check(name: str) -> None:
    """End the program for a name that is neither a kind's nor an address, and for a kind whose package is not there."""
    if name in KINDS:
        package = KINDS[name][0]
        if package and importlib.util.find_spec(package) is None:
            raise SystemExit(f"--server {name}: {package} is not installed; pip install it, then run this again")
    elif not name.startswith(("http://", "https://")):
        raise SystemExit(f"--server {name}: expected {', '.join(KINDS)} or an address (http://HOST:PORT/v1)")


@contextmanager
def started(name: str, base: Path, room: Room) -> Iterator[Running]:
    """The server `name` with the model of the folder `base`."""
    with tempfile.TemporaryDirectory() as folder, KINDS[name][1](base, Path(folder), room) as running:
        yield running


@contextmanager
def transformers_serve(base: Path, folder: Path, dtype: torch.dtype, *options: str) -> Iterator[Running]:
    """`transformers serve` on the model of `base` under the name `MODEL`; its files and log go to `folder`.

    It lists no other models than those of the hub's cache, so the model is laid out as one.
    """
    repository, commit = folder / "hub" / f"models--{MODEL.replace('/', '--')}", "0" * 40
    shutil.copytree(base, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    port = _free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", MODEL, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", "--dtype", str(dtype).removeprefix("torch."), *options]
    hub = {"HF_HUB_CACHE": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}
    with _running(command, port, folder / "log", hub) as running:
        yield running


@contextmanager
def vllm_serve(base: Path, folder: Path, room: Room, *options: str) -> Iterator[Running]:
    """vLLM's server, in the way that docs/engines.md gives; its build for CPUs has no command `vllm`. Raises `vllm_cpu.NoEnvironment`."""
    port, python = _free_port(), vllm_cpu.environment() / "bin" / "python"
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model", str(base), "--served-model-name", MODEL, "--generation-config", "vllm"]
    command += ["--dtype", str(room.dtype).removeprefix("torch."), "--max-num-seqs", str(room.slots)]
    command += ["--max-model-len", str(room.context), "--enable-prompt-tokens-details", *options]
    variables = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    with _running(command, port, folder / "log", variables) as running:
        yield running


def _transformers(base: Path, folder: Path, room: Room) -> AbstractContextManager[Running]:
    sizes = {"max-batch-tokens": PASS, "block-size": PAGE, "num-blocks": room.slots * room.context // PAGE}
    options = [word for name, size in sizes.items() for word in (f"--cb-{name}", str(size))]
    return transformers_serve(
        base, folder, room.dtype, "--continuous-batching", "--attn-implementation", "sdpa", *options
    )


def _llama_cpp(base: Path, folder: Path, room: Room) -> AbstractContextManager[Running]:
    model = folder / "F16.gguf"
    gguf_file(base, "F16", model)
    port, program = _free_port(), str(Path(__file__).with_name("llama_server.py"))
    numbers = map(str, (port, room.slots, room.context, room.threads))
    return _running([sys.executable, program, str(model), MODEL, *numbers], port, folder / "log", {})


# The package that it needs here, and how it is started with a model's folder, a folder of its own, and its room.
KINDS: dict[str, tuple[str | None, Callable[[Path, Path, Room], AbstractContextManager[Running]]]] = {
    "transformers": ("fastapi", _transformers),
    "llama.cpp": ("xllamacpp", _llama_cpp),
    "vllm": (None, vllm_serve),
}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def _running(command: Sequence[str], port: int, log: Path, variables: Mapping[str, str]) -> Iterator[Running]:
    """Raises `RuntimeError` with what the server said if it ends, or does not list its models in time."""
    url = f"http://127.0.0.1:{port}/v1"
    with log.open("wb") as said:
        process = subprocess.Popen(command, env=os.environ | variables, stdout=said, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + START_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > end:
                said_last = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{' '.join(command)}: it does not serve; it said\n{said_last}")
            time.sleep(0.5)
        yield Running(url, process)
    finally:
        process.terminate()  # vLLM ends its workers then
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/models").is_success
    except httpx.TransportError:
        return False
