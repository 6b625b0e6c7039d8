"""The MLflow view, against a real SQLite store: complete, and written once."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest
import yaml
from fake_study import broken
from finished_pipeline import STUDENT, write_results
from tracked import BASE, DISTILLED, client, named, runs, table, traces

from stages import track
from stages.core.records import Episode, read, write
from stages.tracking import store as stores
from stages.tracking.lockfile import file_md5
from stages.tracking.study import Contender, flatten, masked

from mlflow.artifacts import download_artifacts  # isort: skip


def test_a_system_is_one_run_with_few_figures_and_words_for_people(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert track.main() == 0
    said = capsys.readouterr().out
    assert "runs of systems: 2 new, 0 known; traces: 20 new; model versions: 1 new" in said and "./run ui" in said
    found = named(finished)
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found.keys() == {BASE, DISTILLED, "study: study"}
    base, student = found[BASE], found[DISTILLED]
    kept = b"".join(path.read_bytes() for path in finished.glob("ml*/**/*") if path.is_file())
    assert "hunter2" not in said and b"hunter2" not in kept + (finished / stores.DATABASE).read_bytes()

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
    shown = {
        "result": "75.0 % (38\N{EN DASH}100)",
        "withheld skills": "3/4",
        "tokens": "900",
        "panel": "test, 20 tasks",
    }
    assert {**shown, "system": "distilled", "seed": "0", "cell": "alfworld react"}.items() <= student.data.tags.items()
    assert student.data.tags["mlflow.source.name"] == "python evaluate" and student.data.tags["mlflow.user"]
    assert (
        student.data.tags["mlflow.source.git.commit"] == "c0ffee" and student.data.tags["dvc.md5"] == "distilled_s0.dir"
    )
    assert "seed" not in base.data.tags and "train loss" not in base.data.metrics
    curve = client(finished).get_metric_history(student.info.run_id, "train loss")
    assert [(point.step, point.value) for point in curve] == [(1, 2.0), (2, 1.0), (3, 2.0 / 3)]
    assert student.data.params == {"engine.slots": "8", "hints.k": "3"}  # through the stages before it

    datasets = {d.dataset.name: d.dataset.digest for d in student.inputs.dataset_inputs}
    assert datasets == {"alfworld test panel": "t" * 36, "alfworld dev panel": "d" * 36}
    assert [row for row in table(finished, student, "categories") if row["panel"] == "test"] == [
        {"panel": "test", "of": "by_category", "name": "heat", "n": 4, "success": 0.75},
        {"panel": "test", "of": "skills", "name": "known", "n": 16, "success": 0.75},
        {"panel": "test", "of": "skills", "name": "withheld", "n": 4, "success": 0.75},
    ]
    assert {row["panel"]: row["tokens_per_episode"] for row in table(finished, student, "figures")} == {
        "test": 900,
        "dev": 900,
    }


def test_a_study_refers_to_its_systems_and_holds_what_stands_beside_them(finished: Path) -> None:
    (finished / "report").mkdir()
    (finished / "report" / "index.html").write_text("<p>one</p>")
    (finished / "report" / "report.md").write_text("It worked.")
    assert track.main() == 0
    found = named(finished)
    study = found["study: study"]
    assert study.data.params["panels.alfworld.sizes.warmup.heat"] == "0" and not study.data.metrics
    by_system = {row["system"]: row["run"] for row in table(finished, study, "systems")}
    assert by_system == {name: found[name].info.run_id for name in (BASE, DISTILLED)}
    assert [row["difference"] for row in table(finished, study, "contrasts")] == [0.5]
    assert [row["failures"] for row in table(finished, study, "funnel")] == [40]
    assert study.data.tags["mlflow.note.content"] == "It worked."

    (finished / "report" / "index.html").write_text("<p>two</p>")
    lock = yaml.safe_load((finished / "dvc.lock").read_text())
    lock["stages"]["report"]["outs"][0]["md5"] = "r2.dir"
    (finished / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert track.main() == 0
    assert Path(download_artifacts(f"{study.info.artifact_uri}/report/index.html")).read_text() == "<p>two</p>"
    assert len(runs(finished)) == 3


def test_the_experiment_opens_with_a_kind_a_note_and_the_table_of_systems(finished: Path) -> None:
    assert track.main() == 0
    experiment = client(finished).get_experiment_by_name(stores.EXPERIMENT)
    assert experiment is not None and experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert "tags.studies" in experiment.tags["mlflow.note.content"]
    view = json.loads(experiment.tags["mlflow.sharedViewState.systems"])
    assert view["name"] == "Systems" and all(len(tag) < 5000 for tag in experiment.tags.values())


def test_what_an_experiment_leaves_as_it_was_is_not_recorded_again(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing changed; then a setting that no system depends on; then a student's evaluation."""
    assert track.main() == 0
    assert track.main() == 0
    assert (
        "is known; runs of systems: 0 new, 2 known; traces: 0 new; model versions: 0 new, 1 known"
        in capsys.readouterr().out
    )
    assert len(runs(finished)) == 3 and len(client(finished).search_model_versions()) == 1

    settings = yaml.safe_load((finished / "params.yaml").read_text())
    settings["stats"]["seed"] += 1
    (finished / "params.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("DVC_EXP_NAME", "other-seed")
    assert track.main() == 0
    assert (len(runs(finished, "study")), len(runs(finished, "system"))) == (2, 2)
    assert {run.data.tags["studies"] for run in runs(finished, "system")} == {"|study|other-seed|"}

    write_results(finished, dev=0.6)
    assert track.main() == 0
    assert (len(runs(finished, "study")), len(runs(finished, "system"))) == (3, 3)
    [new] = [run for run in runs(finished, "system") if run.data.tags["study"] == "other-seed (2)"]
    assert new.info.run_name == DISTILLED and new.data.metrics["dev success"] == 0.6
    [version] = client(finished).search_model_versions()
    assert version.tags["dev.success"] == "0.6"


def test_a_study_without_a_name_is_called_by_what_it_changes(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    git = ("git", "-c", "user.email=test@example.org", "-c", "user.name=test")
    for command in (("init", "-q"), ("add", "params.yaml"), ("commit", "-q", "-m", "settings")):
        subprocess.run([*git, *command], check=True)
    assert track.main() == 0
    assert "study 'committed settings' is new" in capsys.readouterr().out
    path = finished / "params.yaml"
    path.write_text(path.read_text().replace("  k: 3 ", "  k: 1 ").replace("bootstrap: 10000", "bootstrap: 200"))
    assert track.main() == 0
    assert "study 'hints.k=1, stats.bootstrap=200' is new" in capsys.readouterr().out


def test_episodes_become_traces_the_base_agents_failures_first(finished: Path) -> None:
    assert track.main() == 0
    found = named(finished)
    by_run = {name: traces(finished, found[name]) for name in (BASE, DISTILLED)}
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


def test_a_machines_failure_is_an_error_and_no_verdict_on_the_agent(finished: Path) -> None:
    """It says nothing of the agent, so such a task comes after all others."""
    path = finished / "data/evals/alfworld_react_base/test.parquet"
    write(path, Episode, [broken(e) if e.task_id == "heat-2" else e for e in read(path, Episode)])
    settings = finished / "params.yaml"
    settings.write_text(settings.read_text().replace("  traces: 10 ", "  traces: 99 "))
    assert track.main() == 0
    last = traces(finished, named(finished)[BASE])[-1]
    assert last.info.tags["task"] == "heat-2" and last.info.state == "ERROR" and last.info.assessments == []
    assert "the machine failed: engine down" in last.info.response_preview


def test_more_traces_wanted_are_added_to_the_runs_there_are(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = finished / "params.yaml"
    text = path.read_text()
    for number, said in (
        (2, "is new; runs of systems: 2 new, 0 known; traces: 4 new"),
        (5, "0 new, 2 known; traces: 6 new"),
        (3, "traces: 0 new"),
    ):
        path.write_text(text.replace("  traces: 10 ", f"  traces: {number} "))
        assert track.main() == 0
        assert said in capsys.readouterr().out
    found = named(finished)
    assert [t.info.tags["task"] for t in traces(finished, found[BASE])] != [] and len(found) == 3
    assert {t.info.tags["task"] for t in traces(finished, found[BASE])} == {f"heat-{i}" for i in range(5)}


def test_a_trace_begins_with_the_worked_examples_that_the_prompt_had(finished: Path) -> None:
    path = finished / "metrics" / "systems.json"
    path.write_text(path.read_text().replace('"system": "base"', '"shots": 1, "system": "base"'))
    relock(finished, path)
    evals = finished / "data/evals/alfworld_react_base/test.parquet"
    write(evals, Episode, [dataclasses.replace(e, category_used="heat") for e in read(evals, Episode)])
    assert track.main() == 0
    found = named(finished)
    asked = {name: traces(finished, found[name])[0].data.spans[0].inputs["messages"] for name in (BASE, DISTILLED)}
    assert (
        len(asked[BASE]) > 4
        and asked[BASE][-1]["content"].endswith("You are in a room.")
        and len(asked[DISTILLED]) == 2
    )


def test_a_further_time_writes_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "hints.k=1, stats.seed=2")
    assert track.main() == 0
    written: list[str] = []
    kind = type(client(finished))
    for name in dir(kind):
        if name.startswith(("log_", "set_", "create_", "update_", "delete_")):
            monkeypatch.setattr(kind, name, lambda *args, name=name, **more: written.append(name))
    assert track.main() == 0
    assert written == []


def test_none_wanted_none_written(finished: Path) -> None:
    path = finished / "params.yaml"
    path.write_text(path.read_text().replace("  traces: 10 ", "  traces: 0 "))
    assert track.main() == 0
    assert traces(finished, named(finished)[BASE]) == []


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("dvc.lock", None, "dvc.lock: no such file; run `dvc repro`"),
        ("dvc.lock", "stages: 3", "not a lock file of DVC"),
        ("dvc.lock", "<<<<<<< HEAD\nschema: '2.0'\n=======\n>>>>>>> other\n", "`git checkout --ours dvc.lock`"),
        ("metrics/systems.json", None, "systems.json: No such file"),
        ("metrics/systems.json", "{}", "systems.json: not readable"),
        ("metrics/funnel.json", '{"schema_version": 1, "rows": []}', "differs from what dvc.lock recorded"),
        ("metrics/funnel.json", '{"schema_version": 9, "rows": []}', "schema_version 9 found, 1 expected"),
        (f"data/students/{STUDENT}/adapter/adapter_config.json", None, "run `dvc checkout`"),
        (f"data/students/{STUDENT}/curve.jsonl", "?", "not a learning curve"),
        (f"data/evals/{STUDENT}/test.parquet", None, "test.parquet"),
    ],
)
def test_unusable_inputs_are_named_and_nothing_is_written(
    finished: Path, file: str, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / file).unlink()
    if content is not None:
        (finished / file).write_text(content)
    assert track.main() == 1
    assert message in capsys.readouterr().err
    assert client(finished).get_experiment_by_name(stores.EXPERIMENT) is None


def test_a_student_is_judged_by_its_score_where_rewards_are_graded() -> None:
    judged = {score: Contender("env", "agent", "sft", 0, {"test": {"score": score}}).primary for score in (25.0, None)}
    assert judged == {25.0: "score", None: "success"}


def test_the_first_panel_of_the_metric_file_is_the_one_reported(finished: Path) -> None:
    path = finished / "metrics" / "systems.json"
    path.write_text(path.read_text().replace('"panel": "test"', '"panel": "test_seen"'))
    relock(finished, path)
    for folder in ("alfworld_react_base", STUDENT):
        (finished / "data/evals" / folder / "test.parquet").rename(
            finished / "data/evals" / folder / "test_seen.parquet"
        )
    assert track.main() == 0
    assert named(finished)[DISTILLED].data.tags["panel"] == "test_seen, 20 tasks"


def relock(root: Path, path: Path) -> None:
    """Let dvc.lock know a metric file as it is now."""
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    for out in lock["stages"]["metrics"]["outs"]:
        if root / out["path"] == path:
            out["md5"] = file_md5(path)
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))


def test_secrets_stay_out() -> None:
    settings = {"engine": {"api_key": "k", "url": "http://a:b@h/v1?token=t&x=1", "max_tokens": 3, "hf_token": "h"}}
    assert flatten(settings) == {"engine.url": "http://***@h/v1?token=***&x=1", "engine.max_tokens": "3"}
    assert masked("postgresql://u:p@h/db failed") == "postgresql://***@h/db failed"
