"""The MLflow view, against a real SQLite store: complete, written once, and never in the way of the pipeline."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from finished_pipeline import ADAPTER, STUDENT, write_results, write_student

from stages import track
from stages.tracking import store as stores  # before mlflow: it sets what mlflow reads at import
from stages.tracking.study import Contender, flatten, masked

from mlflow.artifacts import download_artifacts  # isort: skip
from mlflow.entities import Run  # isort: skip
from mlflow.tracking import MlflowClient  # isort: skip

PROJECT = Path(__file__).parents[1]
MODEL = "hintdistill-alfworld-react-distilled"


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with its tables made: a copy of it spares each test the migrations."""
    path = tmp_path_factory.mktemp("store") / stores.DATABASE
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def project(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished pipeline in the working directory: `base` and one student, on both panels."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(empty_store, tmp_path / stores.DATABASE)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(PROJECT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["track"])
    write_student(tmp_path, ADAPTER)
    write_results(tmp_path)
    return tmp_path


def client(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root / stores.DATABASE}")


def runs(root: Path) -> dict[str, Run]:
    """All runs by name; a name twice is a double."""
    experiment = client(root).get_experiment_by_name(stores.EXPERIMENT)
    assert experiment is not None
    found = list(client(root).search_runs([experiment.experiment_id]))
    names = [run.info.run_name for run in found]
    assert len(set(names)) == len(names), names
    return dict(zip(names, found, strict=True))


def parent_of(found: dict[str, Run]) -> Run:
    (parent,) = (run for run in found.values() if "mlflow.parentRunId" not in run.data.tags)
    return parent


def champion(root: Path) -> str:
    return str(client(root).get_model_version_by_alias(MODEL, "champion").version)


def test_records_a_state_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "report").mkdir()
    (project / "report" / "index.html").write_text("<p>one</p>")
    assert track.main() == 0
    first = capsys.readouterr()
    found = runs(project)
    parent, base, student = parent_of(found), found["alfworld_react_base"], found[STUDENT]
    assert {run.info.status for run in found.values()} == {"FINISHED"} and len(found) == 3
    assert "2 new, 0 known; model versions: 1 new" in first.out and "mlflow ui" in first.out
    assert "hunter2" not in first.out and "hunter2" not in str([run.to_dictionary() for run in found.values()])

    assert parent.data.params["panels.alfworld.sizes.warmup.heat"] == "0"
    assert (
        parent.data.params["students.alfworld.max_tokens"] and parent.data.params["axes.arm"] == '["sft", "distilled"]'
    )
    assert parent.data.metrics["contrast.test.alfworld.react.distilled-base.success.difference"] == 0.5
    assert parent.data.metrics["funnel.alfworld.react.gates.sft.hint_text.checked"] == 9
    assert parent.data.tags["git_commit"] == "c0ffee"
    assert parent.data.tags["dvc.stage.students/alfworld_react-distilled-0"]
    assert [f.path for f in client(project).list_artifacts(parent.info.run_id, "report")] == ["report/index.html"]

    assert base.data.tags["mlflow.parentRunId"] == parent.info.run_id and "arm" not in base.data.tags
    assert student.data.metrics["test.success"] == 0.75 and student.data.metrics["dev.success"] == 0.5
    assert student.data.metrics["test.by_category.heat"] == 0.75 and student.data.metrics["test.tokens.act"] == 900
    tags = {"arm": "distilled", "seed": "0", "panel_sha256": "t" * 64, "dev.panel_sha256": "d" * 64, "model": "tiny"}
    assert tags.items() <= student.data.tags.items() and student.data.tags["dvc.md5"] == "distilled_s0.dir"
    curve = client(project).get_metric_history(student.info.run_id, "train.loss")
    assert [(point.step, point.value) for point in curve] == [(1, 2.0), (2, 1.0), (3, 2.0 / 3)]

    version = client(project).get_model_version_by_alias(MODEL, "champion")
    assert version.run_id == student.info.run_id
    tags = {"dvc.md5": "s1.dir", "seed": "0", "dev.success": "0.5", "dev.panel_sha256": "d" * 64}
    assert tags.items() <= version.tags.items()

    (project / "report" / "index.html").write_text("<p>two</p>")
    assert track.main() == 0
    assert "0 new, 2 known; model versions: 0 new, 1 known" in capsys.readouterr().out
    assert runs(project).keys() == found.keys() and len(client(project).search_model_versions()) == 1
    assert Path(download_artifacts(f"{parent.info.artifact_uri}/report/index.html")).read_text() == "<p>two</p>"


def test_changed_settings_are_a_new_state_with_the_same_weights(project: Path) -> None:
    assert track.main() == 0
    settings = yaml.safe_load((project / "params.yaml").read_text())
    settings["stats"]["seed"] += 1
    (project / "params.yaml").write_text(yaml.safe_dump(settings))
    assert track.main() == 0
    experiment = client(project).get_experiment_by_name(stores.EXPERIMENT)
    assert experiment is not None
    found = client(project).search_runs([experiment.experiment_id])
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert (len(parents), len(found)) == (2, 6)
    assert len(client(project).search_model_versions()) == 1


KILL = """
import os, signal, sys
from stages import track
from stages.tracking import projection
from mlflow.tracking import MlflowClient
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
owner, name = {"child": (projection, "finish"), "model": (MlflowClient, "finalize_logged_model")}[sys.argv.pop()]
setattr(owner, name, die)
track.main()
"""


@pytest.mark.parametrize("where", ["child", "model"])
def test_what_a_killed_process_left_is_completed(project: Path, where: str) -> None:
    """Killed with everything of a run written but its end, and with an adapter uploaded but not finalised."""
    command = [sys.executable, "-c", KILL, where]
    killed = subprocess.run(command, cwd=project, env={**os.environ, "PYTHONPATH": str(PROJECT)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = runs(project)
    assert parent_of(left).info.status == "RUNNING"
    assert track.main() == 0
    found = runs(project)
    assert {run.info.status for run in found.values()} == {"FINISHED"} and len(found) == 3
    assert all(found[name].info.run_id == run.info.run_id for name, run in left.items())
    for name, metric in (("alfworld_react_base", "test.success"), (STUDENT, "dev.success")):
        assert len(client(project).get_metric_history(found[name].info.run_id, metric)) == 1
    models = client(project).search_logged_models([parent_of(found).info.experiment_id])
    assert [str(model.status) for model in models] == ["READY"]
    assert len(client(project).search_model_versions()) == 1


def test_alias_moves_only_to_a_strictly_better_student_of_the_same_panel(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[tuple[float, str, str]] = [
        (0.5, "d" * 64, "1"),  # the first one
        (0.5, "d" * 64, "1"),  # as good: stays
        (0.4, "d" * 64, "1"),
        (0.9, "e" * 64, "1"),  # another panel: no comparison
        (0.6, "d" * 64, "5"),
    ]
    for number, (dev, panel, expected) in enumerate(steps, start=1):
        write_student(project, {**ADAPTER, "adapter_model.safetensors": bytes([number])})
        write_results(project, dev, panel, f"s{number}.dir")
        assert track.main() == 0
        assert champion(project) == expected, number
        assert ("another dev panel" in capsys.readouterr().out) == (number == 4)
    assert len(client(project).search_model_versions()) == 5


def test_experiments_elsewhere_share_the_projects_store(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = project / ".dvc" / "tmp" / "exps" / "tmpab12"
    for name in ("metrics", "data"):
        shutil.copytree(project / name, copy / name)
    for name in ("dvc.lock", "dvc.yaml", "params.yaml"):
        shutil.copy(project / name, copy)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_EXP_NAME", "bold-owl")
    assert track.main() == 0
    parent = runs(project)["bold-owl"]
    assert parent.data.tags["dvc.exp_name"] == "bold-owl"
    assert parent.info.artifact_uri.startswith((project / stores.ARTIFACTS).as_uri())
    assert not list(copy.glob("ml*"))
    monkeypatch.chdir(project)
    assert track.main() == 0
    assert "state is known" in capsys.readouterr().out


@pytest.mark.slow
def test_adapter_comes_back_from_the_registry_as_peft_reads_it(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    def base() -> Any:
        torch.manual_seed(0)
        size = LlamaConfig(
            vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
        )
        return LlamaForCausalLM(size)

    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    student = get_peft_model(base(), lora).eval()
    adapter = project / "data" / "students" / STUDENT / "adapter"
    student.save_pretrained(str(adapter))
    assert track.main() == 0

    copy = Path(tmp_path_factory.mktemp("copy"))
    uri = f"sqlite:///{project / stores.DATABASE}"
    folder = Path(download_artifacts(f"models:/{MODEL}@champion", dst_path=str(copy), tracking_uri=uri))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files == {path.name: path.read_bytes() for path in adapter.iterdir()}
    tokens = torch.arange(8).unsqueeze(0)
    with torch.no_grad():
        reloaded = PeftModel.from_pretrained(base(), str(folder)).eval()(tokens).logits
        assert torch.equal(reloaded, student(tokens).logits)
        assert not torch.allclose(reloaded, base().eval()(tokens).logits)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
    project: Path, scheme: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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
    project: Path, busy_server: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{busy_server}")
    assert track.main() == 0
    assert "does not answer" in capsys.readouterr().out


def test_broken_database_fails_the_stage(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / stores.DATABASE).write_text("no database at all")
    assert track.main() == 1
    assert "move it away" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("dvc.lock", None, "dvc.lock: no such file; run `dvc repro`"),
        ("dvc.lock", "stages: 3", "not a lock file of DVC"),
        ("metrics/systems.json", None, "systems.json: no such file"),
        ("metrics/systems.json", "{}", "not a metric file"),
        ("metrics/funnel.json", '{"schema_version": 1, "rows": []}', "differs from what dvc.lock recorded"),
        ("metrics/funnel.json", '{"schema_version": 9, "rows": []}', "schema_version 9, 1 expected"),
        (f"data/students/{STUDENT}/adapter/adapter_config.json", None, "run `dvc checkout`"),
        (f"data/students/{STUDENT}/curve.jsonl", "?", "not a learning curve"),
    ],
)
def test_unusable_inputs_are_named_and_nothing_is_written(
    project: Path, file: str, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / file).unlink()
    if content is not None:
        (project / file).write_text(content)
    assert track.main() == 1
    assert message in capsys.readouterr().err
    assert client(project).get_experiment_by_name(stores.EXPERIMENT) is None


def test_a_student_is_judged_by_its_score_where_rewards_are_graded() -> None:
    judged = {score: Contender("env", "agent", "sft", 0, {"test": {"score": score}}).primary for score in (25.0, None)}
    assert judged == {25.0: "score", None: "success"}


def test_secrets_stay_out() -> None:
    settings = {"engine": {"api_key": "k", "url": "http://a:b@h/v1?token=t&x=1", "max_tokens": 3, "hf_token": "h"}}
    assert flatten(settings) == {"engine.url": "http://***@h/v1?token=***&x=1", "engine.max_tokens": "3"}
    assert masked("postgresql://u:p@h/db failed") == "postgresql://***@h/db failed"
