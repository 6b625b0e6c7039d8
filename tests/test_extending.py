"""docs/extending.md as a person would follow it: its files are put into a copy of the project, and the whole graph plays on them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from by_heart import save_by_heart
from project import copy_project, run, start_repository
from structure import ROOT

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
ENVIRONMENT, AGENT, WRITER = re.findall(r"```python\n(.*?)```", PAGE, re.S)
[PROFILE] = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
OVERLAY = """
axes: {cell: [doors_planact], retrieval: [rag]}
model: {source: model}
engine: {slots: 4, max_new_tokens: 64, context: 2000}
hints: {writer: last_refused}
stats: {bootstrap: 100}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project with the page's environment, agent, hint writer and profile."""
    copy_project(tmp_path, monkeypatch)
    (tmp_path / "stages/envs/doors.py").write_text(ENVIRONMENT, encoding="utf-8")
    (tmp_path / "stages/agents/planact.py").write_text(AGENT, encoding="utf-8")
    (tmp_path / "stages/hinting/writers/last_refused.py").write_text(WRITER, encoding="utf-8")
    (tmp_path / "profiles/doors.yaml").write_text(PROFILE, encoding="utf-8")
    (tmp_path / "profiles/small.yaml").write_text(OVERLAY, encoding="utf-8")
    for name in ("doors", "small"):
        run("python", "-m", "stages", "profile", name)
    return tmp_path


# In a process of its own, as this one has imported the project without the new files.
SHOW = """
import json
from stages import agents
from stages.core.params import load
from stages.envs.panel import load_panel
from stages.envs.registry import make
from pathlib import Path
tasks, _ = load_panel(Path("data/panels/doors"), "train")
agent, env, shown = agents.get("planact", "doors"), make("doors", Path("data/panels/doors")), []
for task in tasks:
    if task.category == "open":
        messages = [[m.role, m.content, False] for m in agent.prompt(env.reset(task).text, ()).messages()]
        shown.append([*messages, ["assistant", agent.render("", f"open {task.spec['door']}", {"Plan": "Open it.", "Keys": "none"}), True]])
print(json.dumps(shown))
"""


@pytest.mark.slow
def test_the_pages_environment_agent_and_writer_play_the_whole_graph(project: Path) -> None:
    assert len(ENVIRONMENT.splitlines()) < 100
    from stages.core.records import Message

    run("python", "-m", "stages.panels", "--env", "doors")
    shown = json.loads(run("python", "-c", SHOW))
    save_by_heart(project / "model", [[Message(*message) for message in talk] for talk in shown])
    assert "fault" not in run("python", "-m", "stages", "doctor")
    start_repository()
    run("dvc", "repro", "-q")

    rows = json.loads(Path("metrics/systems.json").read_text(encoding="utf-8"))["rows"]
    assert {(row["env"], row["agent"], row["system"]) for row in rows} == {
        ("doors", "planact", system) for system in ("base", "rag", "sft", "distilled")
    }
    assert {row["machine_failures"] for row in rows} == {0} and {row["n"] for row in rows} == {3}
    [funnel] = json.loads(Path("metrics/funnel.json").read_text(encoding="utf-8"))["rows"]
    assert funnel["base_successes"] >= 4 and funnel["failures"] >= 3 and funnel["rules"].keys() == {"last_refused"}
    assert min(funnel["lessons"].values()) >= 1
    assert "Doors, PlanAct" in Path("report/report.md").read_text(encoding="utf-8")


def test_a_file_beside_a_folder_of_the_same_name_is_refused_before_anything_runs(project: Path) -> None:
    (project / "stages/envs/doors").mkdir()
    (project / "stages/envs/doors/__init__.py").touch()
    done = subprocess.run(["python", "-m", "stages.cells", "--cell", "doors_react"], capture_output=True, text=True)
    assert done.returncode == 1
    assert (
        done.stderr
        == "cells: params.yaml: stages/envs holds doors.py and doors/, two of one name; rename or remove one\n"
    )


def test_an_environment_whose_class_lacks_a_method_is_refused_before_its_tasks_are_made(project: Path) -> None:
    path = project / "stages/envs/doors.py"
    path.write_text(path.read_text(encoding="utf-8").replace("def step(", "def act("), encoding="utf-8")
    done = subprocess.run(["python", "-m", "stages.panels", "--env", "doors"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "panels: stages.envs.doors:Doors has no step: see stages.envs.base.Environment\n"
    assert not (project / "data/panels").exists()
