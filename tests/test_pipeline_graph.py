"""What DVC runs again, and what it leaves alone: the real graph and the real DVC, with stand-ins for the stages' work.

A stand-in writes a digest of everything its stage declares (data, settings, one module of code), so that a change travels exactly as far as
dvc.yaml says. Of the code that stages depend on (tests/test_structure.py sees to those lists), one module stands for all: DVC writes its whole
lock file anew after each stage, which takes most of the time when every module is in it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.cli import main as dvc
from structure import ROOT

STAND_IN = """
import hashlib, json, pathlib, sys, yaml
name, outs, deps, keys = json.loads(sys.argv[1])
digest = hashlib.sha256()
for dep in map(pathlib.Path, deps):
    for path in sorted(dep.rglob("*")) if dep.is_dir() else [dep]:
        digest.update(path.read_bytes() if path.is_file() else b"")
if name.startswith("demos@"):  # as the real stage: other panels' sizes leave the warm-up's tasks alone
    keys = [key for key in keys if not key.startswith("panels.")]
for key in keys:
    value = yaml.safe_load(open("params.yaml"))
    for part in key.split("."):
        value = value[part]
    digest.update(json.dumps(value).encode())
if name.startswith("cells@"):  # as the real stage: of its own environment alone
    env = name.removeprefix("cells@").rpartition("_")[0]
    folder = pathlib.Path(outs.pop()).parent
    folder.mkdir(parents=True, exist_ok=True)
    outs.clear()
    values = yaml.safe_load(open("params.yaml"))
    own = [values["agent"]["shots"][env], values["runner"]["max_turns"][env]]
    (folder / "play.json").write_text(json.dumps([pathlib.Path("data/panels", env, "content").read_text(), *own]))
    (folder / "training.json").write_text(json.dumps(values["students"][env]))
for out in map(pathlib.Path, outs):
    file = out if out.suffix else out / "content"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(digest.hexdigest())
open("ran", "a").write(name + chr(10))
"""

MODULE = "stages/training/trainer.py"
CELLS = ("alfworld_react", "webshop_act")
SHOWN = {"metrics", "report", "track"}


def of_cells(*stages: str) -> set[str]:
    """Names of stages with their axes' values, once for each cell."""
    names = [stage.partition("-") for stage in stages]
    return {f"{name}@{cell}{dash}{axes}" for name, dash, axes in names for cell in CELLS}


def of_envs(*stages: str) -> set[str]:
    return {f"{stage}@{env}" for stage in stages for env in ("alfworld", "webshop")}


STUDENTS = of_cells(
    *(f"{stage}-{arm}-0" for stage in ("students", "evaluate_students") for arm in ("sft", "distilled"))
)
HINTED = of_cells("evaluate_hinted-rag", "evaluate_hinted-random")
LESSONS = of_cells("lessons-sft", "lessons-distilled")
TEACHING = of_cells("teacher-rag") | LESSONS | STUDENTS | HINTED | SHOWN
PLAYED = of_cells("rollouts", "evaluate", "hints") | TEACHING
BEFORE = {"source", "warmup", "base"} | of_envs("panels", "demos") | of_cells("cells")
EVERYTHING = BEFORE | PLAYED


def with_stand_ins(graph: dict[str, Any]) -> dict[str, Any]:
    """The graph with every command replaced; names, axes, outputs and dependencies stay, of those on code the one on the trainer's folder."""
    for name, stage in graph["stages"].items():
        inner = stage.get("do", stage)
        axes = "-".join(f"${{item.{axis}}}" for axis in stage.get("matrix", {})) or ("${key}" if "do" in stage else "")
        inner["deps"] = [dep for dep in inner["deps"] if dep == "stages/training" or not dep.startswith("stages/")]
        outs = [
            out if isinstance(out, str) else next(iter(out)) for out in inner.get("outs", []) + inner.get("metrics", [])
        ]
        said = json.dumps([f"{name}@{axes}".strip("@"), outs, inner["deps"], inner.get("params", [])])
        inner["cmd"] = f"{sys.executable} stand_in.py '{said}'"
    return graph


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which the whole graph has run once."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / MODULE).parent.mkdir(parents=True)
    shutil.copy(ROOT / MODULE, folder / MODULE)
    for name in ("params.yaml", "curated.yaml"):
        shutil.copy(ROOT / name, folder)
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    (folder / "dvc.yaml").write_text(yaml.safe_dump(with_stand_ins(graph), sort_keys=False, width=10_000))
    (folder / "stand_in.py").write_text(STAND_IN)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert dvc(["init", "-q"]) == 0
        assert repro() == EVERYTHING
    return folder


@pytest.fixture(autouse=True)
def study(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(finished, tmp_path / "study", symlinks=True)
    monkeypatch.chdir(tmp_path / "study")


def repro() -> set[str]:
    """Run `dvc repro`; the stages whose commands ran."""
    Path("ran").write_text("")
    assert dvc(["repro", "-q"]) == 0
    return set(Path("ran").read_text().split())


def change(key: str, value: Any) -> None:
    path = Path("params.yaml")
    values = section = yaml.safe_load(path.read_text(encoding="utf-8"))
    *parents, last = key.split(".")
    for parent in parents:
        section = section[parent]
    assert section[last] != value
    section[last] = value
    path.write_text(yaml.safe_dump(values, sort_keys=False))


def test_nothing_changed_runs_nothing_but_the_projection_into_mlflow() -> None:
    assert repro() == {"track"}


@pytest.mark.parametrize(
    ("key", "value", "reruns"),
    [
        ("hints.k", 2, TEACHING),
        ("hints.retrieval", "dense", TEACHING),
        ("hints.scope", "bank", TEACHING),
        ("hints.max_chars", 100, of_cells("hints") | TEACHING),
        ("students.alfworld.lora.r", 8, of_cells("cells") | {s for s in LESSONS | STUDENTS if "alfworld" in s} | SHOWN),
        ("agent.corrections", 1, PLAYED),
        ("agent.reading", "strict", PLAYED),
        ("lessons.max_refused", {"alfworld": 3, "webshop": 3}, LESSONS | STUDENTS | SHOWN),
        ("stats.seed", 4, SHOWN),
        ("runner.max_turns.webshop", 9, of_cells("cells") | {stage for stage in PLAYED if "webshop" in stage} | SHOWN),
        (
            "evaluate.panels",
            ["test"],
            of_cells("evaluate") | HINTED | SHOWN | {s for s in STUDENTS if "evaluate" in s},
        ),
    ],
)
def test_a_setting_reruns_what_follows_from_it_and_nothing_else(key: str, value: Any, reruns: set[str]) -> None:
    change(key, value)
    assert repro() == reruns
    assert repro() == {"track"}


def test_hints_curated_by_hand_rerun_what_follows_from_the_bank() -> None:
    with Path("curated.yaml").open("a", encoding="utf-8") as curated:
        curated.write("webshop_act: {}\n")
    assert repro() == of_cells("hints") | TEACHING
    Path("mine.yaml").write_text("webshop_act: {}\n", encoding="utf-8")
    change("hints.curated", "mine.yaml")
    assert repro() == of_cells("hints") | TEACHING
    Path("mine.yaml").write_text("# nothing\n", encoding="utf-8")
    assert repro() == of_cells("hints") | TEACHING


def test_another_training_seed_adds_students_and_leaves_the_others_alone() -> None:
    change("axes.seed", [0, 1])
    assert repro() == {name.replace("-0", "-1") for name in STUDENTS} | SHOWN


def test_students_measured_with_hints_too_are_not_trained_again() -> None:
    change("axes.aided", ["distilled"])
    assert repro() == of_cells("evaluate_aided-distilled-0") | SHOWN


def test_another_teacher_leaves_the_first_one_and_the_base_as_they_are() -> None:
    change("axes.arm", ["sft", "distilled", "distilled_random"])
    change("axes.teacher", ["rag", "random"])
    ran = repro()
    assert of_cells("teacher-random", "lessons-distilled_random", "evaluate_students-distilled_random-0") <= ran
    assert not ran & (of_cells("rollouts", "hints", "teacher-rag", "evaluate") | HINTED | BEFORE)


def test_one_cell_alone_leaves_the_warm_up_and_its_own_episodes_as_they_are() -> None:
    change("axes.cell", ["webshop_act"])
    assert repro() == SHOWN


def test_a_cell_put_in_front_reruns_nothing_of_the_others() -> None:
    change("axes.cell", ["alfworld_stateact", *CELLS])
    ran = repro()
    assert {"rollouts@alfworld_stateact", "evaluate_students@alfworld_stateact-distilled-0"} <= ran
    assert {stage for stage in ran if "alfworld_stateact" not in stage} == SHOWN


def test_a_setting_of_one_environments_panels_reruns_that_environment_alone() -> None:
    change("panels.webshop.sizes.train.plain", 41)
    ran = repro()
    assert {"panels@webshop", "demos@webshop", "rollouts@webshop_act", "evaluate@webshop_act"} <= ran
    assert {stage for stage in ran if "alfworld" in stage} == {"cells@alfworld_react"}


def test_the_trainers_code_reruns_training_and_not_the_environments() -> None:
    module = Path(MODULE)
    module.write_text(module.read_text(encoding="utf-8") + "\n# another line\n", encoding="utf-8")
    ran = repro()
    assert {"warmup", "base"} | STUDENTS <= ran
    assert not ran & ({"source"} | of_envs("panels", "demos"))


def test_a_lost_output_is_taken_from_the_cache() -> None:
    shutil.rmtree("data/rollouts")
    assert repro() == {"track"}
    assert Path("data/rollouts/webshop_act/content").is_file()
