"""`python -m stages ui`: MLflow's pages, opened at the table that compares all systems.

A server that MLFLOW_TRACKING_URI names is only told of; a database is served here, on this machine alone.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from argparse import Namespace
from pathlib import Path
from typing import Any

from stages.core.files import CACHE
from stages.core.process import Fault

_START = 60  # seconds that MLflow's server may take to answer


class UiError(Fault, RuntimeError):
    """There is nothing to show, or nowhere to show it: says what to do."""


def add_parser(commands: Any) -> None:
    """The command's own arguments."""
    parser = commands.add_parser("ui", help="MLflow's pages, at the table of all systems, until interrupted")
    parser.add_argument("--port", type=int, default=5000, help="on 127.0.0.1, from 1 to 65535 (default: 5000)")
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Print one address, open it in a browser where there is a screen, and serve until interrupted. Raises `UiError` or `StoreError`."""
    from stages.tracking.store import check_recorded, open_store  # brings mlflow along, which few other commands need
    from stages.tracking.views import address

    root = Path.cwd()
    check_recorded(root)
    with open_store(root) as store:
        experiment, uri = store.experiment_id, store.uri
    if uri.startswith(("http://", "https://")):
        _tell(
            address(re.sub(r"//[^/@]*@", "//", uri).rstrip("/"), experiment)
        )  # whoever opens it has a password of their own
        return 0
    _check_free(args.port)
    where = ("--host", "127.0.0.1", "--port", str(args.port))
    command = [sys.executable, "-m", "mlflow", "server", *where, "--workers", "1"]
    # In the environment and not in the command, which all users of a machine can read: the address may hold a password. Without
    # MLflow's jobs, which are for judges that ask a model: they are six processes more.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": uri, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    for ending in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # also where a shell has set a job in the background to ignore the first
        signal.signal(ending, signal.default_int_handler)
    CACHE.mkdir(exist_ok=True)
    log = CACHE / "mlflow-server.log"
    with (
        log.open("wb") as said,
        subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT) as server,
    ):
        try:
            _wait(server, f"http://127.0.0.1:{args.port}", log)
            _tell(address(f"http://127.0.0.1:{args.port}", experiment))
            return server.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            server.terminate()


def _tell(where: str) -> None:
    print(where, flush=True)
    if sys.stdout.isatty() and (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform == "darwin"
    ):
        webbrowser.open(where)


def _check_free(port: int) -> None:
    if not 0 < port < 2**16:
        raise UiError(f"--port {port}: expected a number from 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UiError(
                f"127.0.0.1:{port} cannot be had ({error.strerror}): is ./run ui running already? Or choose --port"
            ) from error


def _wait(server: subprocess.Popen[bytes], base: str, log: Path) -> None:
    """Until the server answers."""
    end = time.monotonic() + _START
    while time.monotonic() < end:
        if server.poll() is not None:
            raise UiError(
                f"MLflow's server ended at once, with exit status {server.returncode}; what it said is in {log}"
            )
        try:
            urllib.request.urlopen(f"{base}/health", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise UiError(f"MLflow's server at {base} did not answer within {_START} s; what it said is in {log}")
