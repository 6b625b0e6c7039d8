"""MLflow's store as it may be met: shared, half written, deleted, of another version, or not there. Never in the way of the pipeline."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from finished_pipeline import ADAPTER
from structure import ROOT
from tracked import BASE, DISTILLED, MODEL, champion, client, named, runs, unused_port, wait_for

from stages import track
from stages.commands import ui
from stages.tracking import models
from stages.tracking import store as stores
from stages.tracking.moved import follow


def test_a_deleted_run_or_model_is_recorded_again(finished: Path) -> None:
    assert track.main() == 0
    client(finished).delete_run(named(finished)[BASE].info.run_id)
    client(finished).delete_registered_model(MODEL)
    assert track.main() == 0
    assert BASE in named(finished) and champion(finished) == "1"


def test_a_deleted_experiment_is_told_of(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert track.main() == 0
    client(finished).delete_experiment(runs(finished)[0].info.experiment_id)
    assert track.main() == 1
    assert "was deleted" in capsys.readouterr().err


def test_a_store_of_a_newer_mlflow_is_told_of(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(finished / stores.DATABASE)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'f00f00f00f00'")
    assert track.main() == 1
    said = capsys.readouterr().err
    assert "newer" in said and "Traceback" not in said


@pytest.mark.parametrize("kept", [100, 5000])
def test_a_database_that_was_cut_is_told_of(finished: Path, kept: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = finished / stores.DATABASE
    path.write_bytes(path.read_bytes()[:kept])
    assert track.main() == 1
    assert "mlflow.db" in capsys.readouterr().err


@pytest.mark.parametrize("kept_at", ["mlflow-artifacts:/1", "s3://bucket/1", "file:///elsewhere/store"])
def test_artifacts_kept_elsewhere_have_not_moved(finished: Path, kept_at: str) -> None:
    assert track.main() == 0
    address = (finished / stores.ARTIFACTS).as_uri()
    with closing(sqlite3.connect(finished / stores.DATABASE)) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (kept_at, address))
    assert not follow(finished / stores.DATABASE, stores.EXPERIMENT, finished / stores.ARTIFACTS)


def test_two_at_once_record_each_system_once(finished: Path) -> None:
    command = [sys.executable, "-m", "stages.track"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen(command, cwd=finished, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("2 new, 0 known" in text for text in said) == [False, True]
    assert len(named(finished)) == 3


KILL = """
import os, signal, sys
from stages import track
from stages.commands import ui
from stages.tracking import runs
from mlflow.tracing.client import TracingClient
from mlflow.tracking import MlflowClient
where, finish = sys.argv.pop(), runs.finish
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
def of_study(store, run):
    die() if run.data.tags["kind"] == "study" else finish(store, run)
owners = {"system": (runs, "finish", die), "study": (runs, "finish", of_study), "traces": (TracingClient, "log_spans", die)}
owner, name, instead = owners.get(where, (MlflowClient, "finalize_logged_model", die))
setattr(owner, name, instead)
track.main()
"""


@pytest.mark.parametrize("where", ["system", "study", "traces", "model"])
def test_what_a_killed_process_left_is_removed_and_recorded_anew(finished: Path, where: str) -> None:
    """Killed with everything of a run written but its end, within its traces, and with an adapter uploaded but not finalised."""
    command = [sys.executable, "-c", KILL, where]
    killed = subprocess.run(command, cwd=finished, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert "RUNNING" in {run.info.status for run in runs(finished)}
    assert track.main() == 0
    found = named(finished)
    assert {run.info.status for run in found.values()} == {"FINISHED"} and len(found) == 3
    [experiment] = {run.info.experiment_id for run in found.values()}
    assert len(client(finished).search_traces(locations=[experiment], max_results=500)) == 20
    assert len(client(finished).get_metric_history(found[DISTILLED].info.run_id, "dev success")) == 1
    ready = client(finished).search_logged_models([experiment])
    assert [str(model.status) for model in ready] == ["READY"]
    assert len(client(finished).search_model_versions()) == 1


def test_experiments_elsewhere_share_the_projects_store(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = finished / ".dvc" / "tmp" / "exps" / "tmpab12"
    for name in ("metrics", "data"):
        shutil.copytree(finished / name, copy / name)
    for name in ("dvc.lock", "dvc.yaml", "params.yaml"):
        shutil.copy(finished / name, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_EXP_NAME", "bold-owl")
    assert track.main() == 0
    study = named(finished)["study: bold-owl"]
    assert study.info.artifact_uri.startswith((finished / stores.ARTIFACTS).as_uri())
    assert not list(copy.glob("ml*"))
    monkeypatch.chdir(finished)
    assert track.main() == 0
    assert "study 'bold-owl' is known" in capsys.readouterr().out


@pytest.fixture
def busy_server() -> Iterator[int]:
    """A proxy whose server is gone: 503 to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_dead_server_costs_seconds_and_not_the_pipeline(
    finished: Path, scheme: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://me:hunter2@127.0.0.1:{unused_port()}/x")
    start = time.monotonic()
    assert track.main() == 0
    assert time.monotonic() - start < 10
    said = capsys.readouterr()
    assert all(
        part in said.out for part in ("track: not recorded: ", "does not answer", "dvc repro track", "127.0.0.1")
    )
    assert "hunter2" not in said.out + said.err


def test_server_without_its_backend_counts_as_down(
    finished: Path, busy_server: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{busy_server}")
    assert track.main() == 0
    assert "does not answer" in capsys.readouterr().out


def test_broken_database_fails_the_stage(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (finished / stores.DATABASE).write_text("no database at all")
    assert track.main() == 1
    assert "move it away" in capsys.readouterr().err


@pytest.mark.slow
def test_a_server_holds_it_all_and_is_named_as_the_place_to_look(
    finished: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there, address = tmp_path_factory.mktemp("server"), f"http://127.0.0.1:{unused_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", address.rsplit(":", 1)[1], "--workers", "1"]
    where = ["--backend-store-uri", f"sqlite:///{there}/m.db", "--artifacts-destination", str(there / "artifacts")]
    quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen([*command, *where], env=quiet, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(f"{address}/health")
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
            assert track.main() == 0
            assert "runs of systems: 2 new, 0 known; traces: 20 new; model versions: 1 new" in capsys.readouterr().out
            assert track.main() == 0
            assert "0 new, 2 known; traces: 0 new" in capsys.readouterr().out
            student = models.fetch(f"models:/{MODEL}@champion", there / "fetched")
            assert {path.name: path.read_bytes() for path in student.folder.iterdir()} == ADAPTER
            assert ui.run(Namespace(port=5000)) == 0
            assert f"{address}/#/experiments/1/runs?viewStateShareKey=systems" in capsys.readouterr().out
        finally:
            server.terminate()
    assert not (finished / stores.ARTIFACTS).exists()


def test_without_anything_recorded_ui_says_what_to_run(finished: Path) -> None:
    (finished / stores.DATABASE).unlink()
    with pytest.raises(stores.StoreError, match="nothing was recorded yet"):
        ui.run(Namespace(port=5000))


@pytest.mark.parametrize("port", [0, -1, 99999])
def test_a_port_that_is_none_is_told_of(finished: Path, port: int) -> None:
    with pytest.raises(ui.UiError, match="from 1 to 65535"):
        ui.run(Namespace(port=port))


def test_a_port_in_use_is_told_of(finished: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ui.UiError, match="choose --port"):
            ui.run(Namespace(port=taken.getsockname()[1]))
