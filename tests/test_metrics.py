"""From episodes to metric rows: figures worked out by hand, refusals, and the stage on files."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_study import SHA, TASKS, broken, entry, episode, hint, lesson, run

from stages import metrics
from stages.core.params import Cell, Settings, load
from stages.core.records import Answer, BankEntry, Episode, Hint, Lesson, Rejection, write
from stages.envs.base import Task
from stages.envs.panel import load_panel, write_panels
from stages.stats.funnel import LessonSet, funnel_row
from stages.stats.systems import ComparisonError, Panel, Study, check_panel, system_row

STUDY = Study(withheld=("heat",), strength="full", panel_source="generated")
TEST = Panel(SHA["test"], frozenset(task for task, _ in TASKS))
TRAIN = Panel(SHA["train"], TEST.tasks)


def known(task: str, category: str) -> bool:
    return category == "put"


def everything(task: str, category: str) -> bool:
    return True


def test_a_systems_row_counts_what_its_episodes_hold() -> None:
    row = system_row(run("rag", known, retrieve_tokens=30), STUDY, "c0ffee")
    assert (row.n, row.success, row.machine_failures) == (12, 0.5, 0)
    assert row.success_low == pytest.approx(0.253782, abs=1e-6)  # 1/2 - z / (2 sqrt(12 + z^2))
    assert row.tokens_per_episode == 240 + 20 + 30
    assert row.computed_tokens_per_episode == 80 + 30
    assert row.tokens == {"act": 260, "retrieve": 30, "write": 0}
    assert row.cost == {"tokens_per_success": 580, "computed_tokens_per_success": 220}
    assert (row.steps, row.invalid_rate, row.unparsable_rate) == (2, 0.5, 0)
    assert row.score is None
    assert {c: (s["n"], s["success"]) for c, s in row.by_category.items()} == {"heat": (6, 0.0), "put": (6, 1.0)}
    assert {k: (s["n"], s["success"]) for k, s in row.skills.items()} == {"known": (6, 1.0), "withheld": (6, 0.0)}
    assert (row.withheld, row.strength, row.stops) == (["heat"], "full", {"done": 6, "turn_limit": 6})
    assert (row.model, row.engine, row.git_commit, row.panel_source) == ("tiny", "cpu", "c0ffee", "generated")


def test_machine_failures_are_no_evidence() -> None:
    episodes = run("base", known)
    whole = system_row(episodes, STUDY, "")
    row = system_row([broken(episodes[0]), *episodes[1:]], STUDY, "")
    assert (row.n, row.machine_failures) == (11, 1)
    assert row.success == pytest.approx(5 / 11)
    assert row.tokens_per_episode == whole.tokens_per_episode
    with pytest.raises(ComparisonError, match=r"all 12 episodes are machine failures \(first: engine down\)"):
        system_row([broken(e) for e in episodes], STUDY, "")


def test_no_success_has_no_price_and_nothing_withheld_no_rate() -> None:
    row = system_row(run("base", lambda t, c: False), Study(), "")
    assert row.cost["tokens_per_success"] is None
    assert row.skills["withheld"] == {"n": 0, "success": None, "reward": None, "success_low": 0.0, "success_high": 1.0}


def test_webshop_has_a_score_and_unparsable_turns_are_counted() -> None:
    silent = [dataclasses.replace(t, action="") for t in episode("base", "t", "put", True).turns]
    episodes = run("base", known, env="webshop", turns=silent)
    graded = dataclasses.replace(STUDY, graded=True)
    row = system_row([dataclasses.replace(e, reward=0.25) for e in episodes], graded, "")
    assert row.score == 25.0
    assert row.unparsable_rate == 1.0


def test_systems_mixed_in_one_file_are_refused() -> None:
    with pytest.raises(ComparisonError, match="one system, seed and panel"):
        system_row(run("base", known) + run("rag", known), STUDY, "")


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        (run("rag", known, panel_sha256="f" * 64), r"rag: played panel f{64}, not e{64}"),
        (run("rag", known)[1:], r"rag: tasks played 1 never \(put-0\), not each exactly once"),
        (run("rag", known) + run("rag", known)[:2], r"2 more than once \(put-0, put-1\)"),
        ([*run("rag", known), episode("rag", "cool-9", "cool", True)], r"1 though no task of the panel \(cool-9\)"),
        ([], r"12 never \(heat-0, heat-1, heat-2, heat-3, heat-4 and 7 more\)"),
    ],
)
def test_only_the_same_tasks_each_once_are_compared(episodes: list[Episode], message: str) -> None:
    with pytest.raises(ComparisonError, match=message):
        check_panel({"base": run("base", known), "rag": episodes}, TEST)
    check_panel({"base": run("base", known)}, TEST)


def test_the_funnel_follows_failures_to_lessons() -> None:
    base = run("base", known, "train")
    teacher = [
        dataclasses.replace(e, success=e.task_id != "put-0", hint_ids=["b1"] if e.category == "heat" else [])
        for e in run("rag", everything, "train")
    ]
    hints = [hint(0, "unused_action"), hint(1, "unused_action"), hint(2, "repeated")]
    arms = {
        "sft": LessonSet([lesson("sft", "put-1", "put")], {"leak": {"checked": 1, "failed": 0}}, {}),
        "distilled": LessonSet([lesson("distilled", t, "heat") for t in ("heat-0", "heat-1")], {}, {"refused": 9}),
    }
    row = funnel_row(TRAIN, base, teacher, hints, [entry(1, ["h0", "h1"]), entry(2, ["h2"])], [], arms, STUDY, 2)
    assert (row.episodes, row.base_successes, row.failures, row.hints, row.bank) == (12, 6, 6, 3, 2)
    assert (row.teacher_episodes, row.teacher_successes, row.recovered, row.lost) == (12, 11, 6, 1)
    assert row.skills["teacher"]["withheld"]["success"] == 1.0
    assert row.skills["base"]["withheld"]["success"] == 0.0
    assert row.rules == {
        "repeated": {"hints": 1, "shown": 0, "succeeded": 0},
        "unused_action": {"hints": 2, "shown": 6, "succeeded": 6},
    }
    assert row.lessons == {"sft": 1, "distilled": 2}
    assert row.trained_tokens == {"sft": 20, "distilled": 40}
    assert row.lesson_tokens == {"sft": 50, "distilled": 100}
    assert row.gates["sft"] == {"leak": {"checked": 1, "failed": 0}}
    assert row.dropped["distilled"] == {"refused": 9}
    assert row.tokens == {"rollouts": 12 * 260, "teacher": 12 * 260, "write": 0}


def test_no_failure_is_a_funnel_too() -> None:
    row = funnel_row(TRAIN, run("base", everything, "train"), run("rag", everything, "train"), [], [], [], {}, STUDY, 1)
    assert (row.failures, row.hints, row.recovered, row.rules, row.lessons) == (0, 0, 0, {}, {})


def test_floats_are_cut_to_ten_digits_and_stay_numbers() -> None:
    assert metrics.tidy({"a": [0.1 + 0.2, 1 / 3], "b": True, "c": None, "n": 7}) == {
        "a": [0.3, 0.3333333333],
        "b": True,
        "c": None,
        "n": 7,
    }


# The stage itself, on files in a folder of its own.


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small finished study: panels, episodes of six systems on two panels, hints, lessons and their gates."""
    settings = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    settings["axes"] |= {"cell": ["alfworld_react"], "retrieval": ["rag"]}
    settings["evaluate"] = {"panels": ["dev", "test"]}
    settings["stats"]["bootstrap"] = 200
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["metrics"])
    Path("dvc.yaml").touch()
    Path("params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    write_cell("alfworld_react")
    for panel in ("dev", "test"):
        for name, system, solved in (
            ("base", "base", known),
            ("rag", "rag", everything),
            ("sft_s0", "sft", known),
            ("distilled_s0", "distilled", everything),
        ):
            write(
                Path(f"data/evals/alfworld_react_{name}/{panel}.parquet"), Episode, on_panel(run(system, solved), panel)
            )
    write(Path("data/rollouts/alfworld_react/episodes.parquet"), Episode, on_panel(run("base", known), "train"))
    write(Path("data/teacher/alfworld_react/rag/episodes.parquet"), Episode, on_panel(run("rag", everything), "train"))
    write(Path("data/hints/alfworld_react/hints.parquet"), Hint, [hint(0, "repeated")])
    write(Path("data/hints/alfworld_react/bank.parquet"), BankEntry, [entry(1, ["h0"])])
    for arm in ("sft", "distilled"):
        lessons = Path(f"data/lessons/alfworld_react_{arm}")
        write(lessons / "lessons.parquet", Lesson, [lesson(arm, "put-1", "put")])
        gates = {"schema_version": 1, "gates": {"leak": {"checked": 1, "failed": 0}}, "dropped": {}, "kept": 1}
        (lessons / "gates.json").write_text(json.dumps(gates), encoding="utf-8")
    return tmp_path


def write_cell(cell: str, source: str = "generated", basis: str = "all of it") -> None:
    """A cell's panels, and what is said of its hint writer."""
    env, _, _ = cell.partition("_")
    panels, hints = Path(f"data/panels/{env}"), Path(f"data/hints/{cell}")
    for folder in (panels, hints):
        folder.mkdir(parents=True, exist_ok=True)
    tasks = {
        panel: [Task(f"{panel}-{task}", env, panel, category, "goal", {"game": "g"}) for task, category in TASKS]
        for panel in SHA
    }
    write_panels(panels, env, source, tasks)
    write(hints / "answers.parquet", Answer, [])
    write(hints / "rejected.parquet", Rejection, [])
    writer = {"schema_version": 1, "writer": "rules", "basis": basis}
    (hints / "writer.json").write_text(json.dumps(writer), encoding="utf-8")


def on_panel(episodes: list[Episode], panel: str) -> list[Episode]:
    """The episodes as played on a panel of the workspace, whose hash is a real one."""
    _, sha256 = load_panel(Path("data/panels/alfworld"), panel)
    changes: dict[str, Any] = {"panel": panel, "panel_sha256": sha256}
    return [dataclasses.replace(e, task_id=f"{panel}-{e.task_id}", **changes) for e in episodes]


def written(workspace: Path) -> dict[str, bytes]:
    """The metric files by their paths below metrics/."""
    folder = workspace / "metrics"
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_the_stage_writes_every_file_and_the_same_bytes_again(workspace: Path) -> None:
    assert metrics.main() == 0
    first = written(workspace)
    (workspace / "metrics/summary/gone_act").mkdir()
    assert metrics.main() == 0
    assert written(workspace) == first and not (workspace / "metrics/summary/gone_act").exists()
    summaries = {f"summary/alfworld_react/{system}.json" for system in ("base", "rag", "sft", "distilled")}
    assert set(first) - summaries == {
        "systems.json",
        "contrasts.json",
        "funnel.json",
        "plots/systems.csv",
        "plots/categories.csv",
    }
    systems = json.loads(first["systems.json"])
    assert systems["schema_version"] == 1
    assert [(r["system"], r["panel"], r["success"]) for r in systems["rows"]] == [
        ("base", "test", 0.5),
        ("rag", "test", 1.0),
        ("sft", "test", 0.5),
        ("distilled", "test", 1.0),
    ]
    assert {r["panel"] for r in systems["other_panels"]} == {"dev"}
    contrasts = json.loads(first["contrasts.json"])
    assert [(r["a"], r["b"], r["metric"]) for r in contrasts["rows"] if r["primary"]] == [
        ("distilled", "sft", "success")
    ]
    assert not any(r["primary"] for r in contrasts["other_panels"] + contrasts["by_skill"])
    assert {r["panel"] for r in contrasts["other_panels"]} == {"dev", "train"}
    [predicted] = [r for r in contrasts["other_panels"] if (r["panel"], r["metric"]) == ("train", "success")]
    assert (predicted["a"], predicted["b"], predicted["n"], predicted["difference"]) == ("rag", "base", 12, 0.5)
    assert {r["tasks"] for r in contrasts["rows"] + contrasts["other_panels"]} == {"all"}
    by_skill = {(r["panel"], r["a"], r["tasks"]): r["difference"] for r in contrasts["by_skill"]}
    assert by_skill == {
        (panel, a, tasks): float((a, tasks) == ("distilled", "withheld"))
        for panel in ("dev", "test")
        for a in ("sft", "distilled")
        for tasks in ("known", "withheld")
    }
    [funnel] = json.loads(first["funnel.json"])["rows"]
    assert (funnel["lessons"], funnel["hint_basis"]) == ({"sft": 1, "distilled": 1}, "all of it")
    summary = {path.split("/")[-1]: json.loads(first[path]) for path in summaries}
    assert summary == {
        "base.json": {"success": 0.5, "withheld": 0.0},
        "rag.json": {"success": 1.0, "tokens": 260.0},
        "sft.json": {"success": 0.5},
        "distilled.json": {"success": 1.0, "withheld": 1.0, "tokens": 260.0, "minus_sft": 0.5, "p": 0.03125},
    }
    table = list(csv.DictReader(first["plots/systems.csv"].decode().splitlines()))
    assert [line["system"] for line in table][-1] == "alfworld react distilled_s0"
    assert float(table[0]["low"]) < float(table[0]["success"]) < float(table[0]["high"])
    categories = {line["category"] for line in csv.DictReader(first["plots/categories.csv"].decode().splitlines())}
    assert categories == {"alfworld react heat", "alfworld react put"}


def failing(capsys: pytest.CaptureFixture[str]) -> str:
    """Run the stage, expect it to fail without touching earlier outputs, and give its message."""
    before = {p: p.read_bytes() for p in Path("metrics").rglob("*.*")}
    assert metrics.main() == 1
    assert before == {p: p.read_bytes() for p in Path("metrics").rglob("*.*")}
    return capsys.readouterr().err


def test_unusable_inputs_end_in_one_line_and_keep_earlier_metrics(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert metrics.main() == 0
    path = Path("data/evals/alfworld_react_rag/test.parquet")
    write(path, Episode, on_panel(run("rag", known), "test")[2:])
    assert "alfworld_react_rag: tasks played 2 never (test-put-0, test-put-1)" in failing(capsys)
    write(path, Episode, on_panel(run("base", known), "test"))
    assert "alfworld_react_rag/test.parquet: base-put-0 is of ('alfworld', 'react', 'base'" in failing(capsys)
    path.unlink()
    assert "rag/test.parquet: no such file" in failing(capsys)
    gates = Path("data/lessons/alfworld_react_sft/gates.json")
    gates.write_text("{}", encoding="utf-8")
    write(path, Episode, on_panel(run("rag", known), "test"))
    assert "gates.json: not readable (KeyError('schema_version'))" in failing(capsys)


def settings_with(settings: Settings, **sections: Any) -> Settings:
    return settings.model_copy(update=sections)


def test_a_warmup_that_is_off_withholds_nothing(workspace: Path) -> None:
    settings, cell = load(), Cell("alfworld_react")
    warmup = settings.warmup.model_copy(update={"enabled": True, "withheld": {"alfworld": ["heat"]}})
    on = metrics.study_of(cell, settings_with(settings, warmup=warmup))
    assert (on.withheld, on.strength, on.panel_source) == (("heat",), "full", "generated")
    write_cell(cell, source="official")
    off = settings_with(settings, warmup=warmup.model_copy(update={"enabled": False}))
    expected = Study((), "", "official", hint_basis="all of it", max_turns=20, k=3, overlaps=[], left_out={})
    assert metrics.study_of(cell, off) == expected


def test_rewards_are_graded_where_the_environment_says_so(workspace: Path) -> None:
    write_cell("webshop_act")
    graded = {cell: metrics.study_of(Cell(cell), load()).graded for cell in ("alfworld_react", "webshop_act")}
    assert graded == {"alfworld_react": False, "webshop_act": True}


def test_what_the_hint_writer_saw_stands_beside_the_figures(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for basis in ("the reward's parts", "the outcome alone"):
        write_cell("alfworld_react", basis=basis)
        assert metrics.study_of(Cell("alfworld_react"), load()).hint_basis == basis
    Path("data/hints/alfworld_react/writer.json").unlink()
    assert "data/hints/alfworld_react/writer.json: No such file or directory; run `dvc repro`" in failing(capsys)


def test_each_environment_reports_test_or_else_the_last_panel_that_it_was_measured_on(tmp_path: Path) -> None:
    assert metrics.reported_panel(["test", "dev"]) == "test"
    assert metrics.reported_panel(["dev", "test_seen"]) == "test_seen"
    runs = [run("base", known, panel, env=env) for env in ("alfworld", "webshop") for panel in ("dev", "test")][:3]
    rows = [system_row(episodes, STUDY, "") for episodes in runs]
    metrics.write_all(tmp_path, rows, [], [], {"alfworld": "test", "webshop": "dev"})
    systems = json.loads((tmp_path / "systems.json").read_text(encoding="utf-8"))
    assert [(r["env"], r["panel"]) for r in systems["rows"]] == [("alfworld", "test"), ("webshop", "dev")]
    assert [(r["env"], r["panel"]) for r in systems["other_panels"]] == [("alfworld", "dev")]
    assert {p.name for p in (tmp_path / "summary").iterdir()} == {"alfworld_react", "webshop_react"}


def test_the_commit_is_empty_outside_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert metrics.git_commit() == ""
