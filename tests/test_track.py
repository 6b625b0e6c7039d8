"""The MLflow view, against a real SQLite store: complete, written once, and never in the way of the pipeline."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_study import broken
from finished_pipeline import ADAPTER, STUDENT, write_results, write_student

from stages import track
from stages.core.records import Episode, read, write
from stages.tracking import models  # before mlflow: it sets what mlflow reads at import
from stages.tracking import store as stores
from stages.tracking.study import Contender, flatten, masked

from mlflow.artifacts import download_artifacts  # isort: skip
from mlflow.entities import Run, Trace  # isort: skip
from mlflow.tracking import MlflowClient  # isort: skip

PROJECT = Path(__file__).parents[1]
MODEL = "hintdistill-alfworld-react-distilled"
BASE, DISTILLED = "alfworld react: base", "alfworld react: distilled, seed 0"


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


def runs(root: Path, kind: str = "") -> list[Run]:
    """All runs, or those of a kind."""
    experiment = client(root).get_experiment_by_name(stores.EXPERIMENT)
    assert experiment is not None
    return list(client(root).search_runs([experiment.experiment_id], f"tags.kind = '{kind}'" if kind else ""))


def named(root: Path) -> dict[str, Run]:
    """All runs by name; a name twice is a double."""
    found = runs(root)
    names = [run.info.run_name for run in found]
    assert len(set(names)) == len(names), names
    return dict(zip(names, found, strict=True))


def traces(root: Path, run: Run) -> list[Trace]:
    found = client(root).search_traces(locations=[run.info.experiment_id], run_id=run.info.run_id, max_results=500)
    return list(found)


def table(root: Path, run: Run, name: str) -> list[dict[str, Any]]:
    """A logged table's rows."""
    content = json.loads(Path(download_artifacts(f"{run.info.artifact_uri}/{name}.json")).read_text())
    return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def champion(root: Path) -> str:
    return str(client(root).get_model_version_by_alias(MODEL, "champion").version)


def test_a_system_is_one_run_with_few_figures_and_words_for_people(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert track.main() == 0
    said = capsys.readouterr().out
    assert "runs of systems: 2 new, 0 known; traces: 20 new; model versions: 1 new" in said and "./run ui" in said
    found = named(project)
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found.keys() == {BASE, DISTILLED, "study: study"}
    base, student = found[BASE], found[DISTILLED]
    assert "hunter2" not in said and "hunter2" not in str([run.to_dictionary() for run in found.values()])

    assert len({name for run in found.values() for name in run.data.metrics}) <= 40
    figures = {
        "success": 0.75,
        "success_low": 0.375,
        "known": 0.75,
        "withheld": 0.75,
        "tokens": 900,
        "dev success": 0.5,
    }
    assert figures.items() <= student.data.metrics.items() and "score" not in student.data.metrics
    shown = {"result": "75.0 % (38 to 100)", "withheld skills": "3 of 4", "tokens": "900", "panel": "test, 20 tasks"}
    assert {**shown, "system": "distilled", "seed": "0", "cell": "alfworld react"}.items() <= student.data.tags.items()
    assert student.data.tags["mlflow.source.name"] == "python evaluate" and student.data.tags["mlflow.user"]
    assert (
        student.data.tags["mlflow.source.git.commit"] == "c0ffee" and student.data.tags["dvc.md5"] == "distilled_s0.dir"
    )
    assert "seed" not in base.data.tags and "train loss" not in base.data.metrics
    curve = client(project).get_metric_history(student.info.run_id, "train loss")
    assert [(point.step, point.value) for point in curve] == [(1, 2.0), (2, 1.0), (3, 2.0 / 3)]
    assert student.data.params == {"engine.slots": "8", "hints.k": "3"}  # through the stages before it

    datasets = {d.dataset.name: d.dataset.digest for d in student.inputs.dataset_inputs}
    assert datasets == {"alfworld test panel": "t" * 36, "alfworld dev panel": "d" * 36}
    assert [row for row in table(project, student, "categories") if row["panel"] == "test"] == [
        {"panel": "test", "of": "by_category", "name": "heat", "n": 4, "success": 0.75},
        {"panel": "test", "of": "skills", "name": "known", "n": 16, "success": 0.75},
        {"panel": "test", "of": "skills", "name": "withheld", "n": 4, "success": 0.75},
    ]
    assert {row["panel"]: row["tokens_per_episode"] for row in table(project, student, "figures")} == {
        "test": 900,
        "dev": 900,
    }


def test_a_study_refers_to_its_systems_and_holds_what_stands_beside_them(project: Path) -> None:
    (project / "report").mkdir()
    (project / "report" / "index.html").write_text("<p>one</p>")
    (project / "report" / "report.md").write_text("It worked.")
    assert track.main() == 0
    found = named(project)
    study = found["study: study"]
    assert study.data.params["panels.alfworld.sizes.warmup.heat"] == "0" and not study.data.metrics
    by_system = {row["system"]: row["run"] for row in table(project, study, "systems")}
    assert by_system == {name: found[name].info.run_id for name in (BASE, DISTILLED)}
    assert [row["difference"] for row in table(project, study, "contrasts")] == [0.5]
    assert [row["failures"] for row in table(project, study, "funnel")] == [40]
    assert study.data.tags["mlflow.note.content"] == "It worked."

    (project / "report" / "index.html").write_text("<p>two</p>")
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    lock["stages"]["report"]["outs"][0]["md5"] = "r2.dir"
    (project / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert track.main() == 0
    assert Path(download_artifacts(f"{study.info.artifact_uri}/report/index.html")).read_text() == "<p>two</p>"
    assert len(runs(project)) == 3


def test_the_experiment_opens_with_a_kind_a_note_and_the_table_of_systems(project: Path) -> None:
    assert track.main() == 0
    experiment = client(project).get_experiment_by_name(stores.EXPERIMENT)
    assert experiment is not None and experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert "tags.studies" in experiment.tags["mlflow.note.content"]
    view = json.loads(experiment.tags["mlflow.sharedViewState.systems"])
    assert view["name"] == "Systems" and all(len(tag) < 5000 for tag in experiment.tags.values())


def test_what_an_experiment_leaves_as_it_was_is_not_recorded_again(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing changed; then a setting that no system depends on; then a student's evaluation."""
    assert track.main() == 0
    assert track.main() == 0
    assert (
        "is known; runs of systems: 0 new, 2 known; traces: 0 new; model versions: 0 new, 1 known"
        in capsys.readouterr().out
    )
    assert len(runs(project)) == 3 and len(client(project).search_model_versions()) == 1

    settings = yaml.safe_load((project / "params.yaml").read_text())
    settings["stats"]["seed"] += 1
    (project / "params.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("DVC_EXP_NAME", "other-seed")
    assert track.main() == 0
    assert (len(runs(project, "study")), len(runs(project, "system"))) == (2, 2)
    assert {run.data.tags["studies"] for run in runs(project, "system")} == {"study, other-seed"}

    write_results(project, dev=0.6)
    assert track.main() == 0
    assert (len(runs(project, "study")), len(runs(project, "system"))) == (3, 3)
    [new] = [run for run in runs(project, "system") if run.data.tags["study"] == "other-seed (2)"]
    assert new.info.run_name == DISTILLED and new.data.metrics["dev success"] == 0.6
    [version] = client(project).search_model_versions()
    assert version.tags["dev.success"] == "0.6"


def test_a_study_without_a_name_is_called_by_what_it_changes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git = ("git", "-c", "user.email=test@example.org", "-c", "user.name=test")
    for command in (("init", "-q"), ("add", "params.yaml"), ("commit", "-q", "-m", "settings")):
        subprocess.run([*git, *command], check=True)
    assert track.main() == 0
    assert "study 'committed settings' is new" in capsys.readouterr().out
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("  k: 3 ", "  k: 1 ").replace("bootstrap: 10000", "bootstrap: 200"))
    assert track.main() == 0
    assert "study 'hints.k=1, stats.bootstrap=200' is new" in capsys.readouterr().out


def test_episodes_become_traces_the_base_agents_failures_first(project: Path) -> None:
    assert track.main() == 0
    found = named(project)
    by_run = {name: traces(project, found[name]) for name in (BASE, DISTILLED)}
    tasks = {name: [t.info.tags["task"] for t in shown] for name, shown in by_run.items()}
    assert tasks[BASE] == tasks[DISTILLED] == [*(f"heat-{i}" for i in range(6)), *(f"put-{i}" for i in range(4))]
    trace = by_run[BASE][0]
    assert (
        trace.info.trace_metadata["mlflow.trace.session"] == "heat-0" and trace.info.token_usage["total_tokens"] == 260
    )
    assert {a.name: a.value for a in trace.info.assessments} == {"success": False, "reward": 0.0}
    assert "base: failed after 2 steps" in trace.info.response_preview and trace.info.execution_duration is None
    names = [span.name for span in trace.data.spans]
    assert names == ["episode", "turn 1", "model 1", "environment 1", "turn 2", "model 2", "environment 2"]
    root, call, step = trace.data.spans[0], trace.data.spans[5], trace.data.spans[6]
    assert root.attributes["hints"] == [] and root.inputs["messages"][-1] == {
        "role": "user",
        "content": "You are in a room.",
    }
    assert call.inputs == {"messages": [{"role": "user", "content": "You go."}]}
    assert call.outputs == {"messages": [{"role": "assistant", "content": "Action: fly"}]}
    assert call.attributes["mlflow.chat.tokenUsage"]["input_tokens"] == 140
    assert step.inputs == {"action": "fly"} and step.outputs == {"observation": "Nothing happens."}
    assert step.attributes["valid"] is False


def test_a_machines_failure_is_an_error_and_no_verdict_on_the_agent(project: Path) -> None:
    path = project / "data/evals/alfworld_react_base/test.parquet"
    write(
        path, Episode, [broken(episode) if episode.task_id == "heat-2" else episode for episode in read(path, Episode)]
    )
    assert track.main() == 0
    [trace] = [t for t in traces(project, named(project)[BASE]) if t.info.tags["task"] == "heat-2"]
    assert trace.info.state == "ERROR" and trace.info.assessments == []
    assert "the machine failed: engine down" in trace.info.response_preview


def test_none_wanted_none_written(project: Path) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("  traces: 10 ", "  traces: 0 "))
    assert track.main() == 0
    assert traces(project, named(project)[BASE]) == []


def test_a_version_says_what_it_is(project: Path) -> None:
    assert track.main() == 0
    version = client(project).get_model_version_by_alias(MODEL, "champion")
    student = named(project)[DISTILLED]
    assert version.run_id == student.info.run_id
    assert [f"models:/{output.model_id}" for output in student.inputs.model_inputs] == [version.source]
    tags = {"dvc.md5": "s1.dir", "arm": "distilled", "seed": "0", "base_model": "tiny", "dev.success": "0.5"}
    assert {**tags, "dev": "50.0 % of 20 tasks", "test": "75.0 % of 20 tasks"}.items() <= version.tags.items()
    for part in (
        "LoRA adapter for alfworld react, seed 0",
        "75.0 % (38 to 100)",
        "no benchmark numbers",
        "PeftModel",
        "stages play",
    ):
        assert part in version.description
    assert "champion" in client(project).get_registered_model(MODEL).description


@pytest.mark.parametrize("address", [f"models:/{MODEL}@champion", f"models:/{MODEL}/latest", f"models:/{MODEL}/1"])
def test_a_registered_student_is_fetched_with_what_it_is_for(
    project: Path, address: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert track.main() == 0
    student = models.fetch(address, tmp_path_factory.mktemp("fetched"))
    assert {path.name: path.read_bytes() for path in student.folder.iterdir()} == ADAPTER
    assert (student.env, student.agent, student.arm, student.seed, student.base) == (
        "alfworld",
        "react",
        "distilled",
        0,
        "tiny",
    )


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hintdistill", "expected models:/NAME@champion"),
        ("models:/nobody@champion", f"whose registered models are: {MODEL}"),
        (f"models:/{MODEL}/9", "version=9"),
        ("models:/nobody/latest", f"whose registered models are: {MODEL}"),
    ],
)
def test_an_unknown_model_is_named_with_those_there_are(
    project: Path, address: str, message: str, tmp_path: Path
) -> None:
    assert track.main() == 0
    with pytest.raises(models.ModelError, match=re.escape(message)):
        models.fetch(address, tmp_path)


@pytest.mark.parametrize("how", [shutil.move, shutil.copytree])
def test_models_are_found_and_made_in_a_folder_that_was_moved_or_copied(
    project: Path, how: Any, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert track.main() == 0
    there = tmp_path_factory.mktemp("there") / "project"
    how(project, there)
    monkeypatch.chdir(there)
    write_student(there, {**ADAPTER, "adapter_model.safetensors": b"second"})
    write_results(there, 0.6, student_md5="s2.dir")
    assert track.main() == 0
    fetched = [models.fetch(f"models:/{MODEL}/{v}", tmp_path_factory.mktemp("v")).folder for v in (1, 2)]
    assert [(f / "adapter_model.safetensors").read_bytes() for f in fetched] == [
        ADAPTER["adapter_model.safetensors"],
        b"second",
    ]
    assert not (project / stores.ARTIFACTS).exists() or not list((project / stores.ARTIFACTS).rglob("*second*"))
    with closing(sqlite3.connect(there / stores.DATABASE)) as database:
        assert (project / stores.ARTIFACTS).as_uri() not in "\n".join(database.iterdump())


def test_a_deleted_run_or_model_is_recorded_again(project: Path) -> None:
    assert track.main() == 0
    client(project).delete_run(named(project)[BASE].info.run_id)
    client(project).delete_registered_model(MODEL)
    assert track.main() == 0
    assert BASE in named(project) and champion(project) == "1"


def test_a_deleted_experiment_is_told_of(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert track.main() == 0
    client(project).delete_experiment(runs(project)[0].info.experiment_id)
    assert track.main() == 1
    assert "was deleted" in capsys.readouterr().err


def test_a_store_of_a_newer_mlflow_is_told_of(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(project / stores.DATABASE)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'f00f00f00f00'")
    assert track.main() == 1
    said = capsys.readouterr().err
    assert "newer" in said and "Traceback" not in said


def test_two_at_once_record_each_system_once(project: Path) -> None:
    command = [sys.executable, "-m", "stages.track"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    both = [
        subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted("2 new, 0 known" in text for text in said) == [False, True]
    assert len(named(project)) == 3


KILL = """
import os, signal, sys
from stages import track
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
def test_what_a_killed_process_left_is_removed_and_recorded_anew(project: Path, where: str) -> None:
    """Killed with everything of a run written but its end, within its traces, and with an adapter uploaded but not finalised."""
    command = [sys.executable, "-c", KILL, where]
    killed = subprocess.run(command, cwd=project, env={**os.environ, "PYTHONPATH": str(PROJECT)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert "RUNNING" in {run.info.status for run in runs(project)}
    assert track.main() == 0
    found = named(project)
    assert {run.info.status for run in found.values()} == {"FINISHED"} and len(found) == 3
    [experiment] = {run.info.experiment_id for run in found.values()}
    assert len(client(project).search_traces(locations=[experiment], max_results=500)) == 20
    assert len(client(project).get_metric_history(found[DISTILLED].info.run_id, "dev success")) == 1
    ready = client(project).search_logged_models([experiment])
    assert [str(model.status) for model in ready] == ["READY"]
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
    study = named(project)["study: bold-owl"]
    assert study.info.artifact_uri.startswith((project / stores.ARTIFACTS).as_uri())
    assert not list(copy.glob("ml*"))
    monkeypatch.chdir(project)
    assert track.main() == 0
    assert "study 'bold-owl' is known" in capsys.readouterr().out


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
