"""The paper's study as its profile has it, from end to end: real stages, real DVC and MLflow, official games, the Qwen2 architecture.

In place of the weights stands a tiny model that was drawn at random and has learnt by heart to win the train games of one category, so that
there are successes, failures and hints; the model that writes these is a stand-in at a server of its own. What cannot be here is overlaid: vLLM, 4 bits, WebShop's official files, and worked examples, which are
too long for bytes as tokens.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from by_heart import save_by_heart
from dvc.cli import main as dvc
from fake_server import said_by, serving
from official_games import game_of, goals, write_official
from project import copy_project

from stages.agents import get
from stages.commands.doctor import examine
from stages.commands.profile import apply_profile
from stages.core.params import load
from stages.core.records import Message
from stages.demonstrations.alfworld.explorer import Explorer
from stages.envs.alfworld.engine import Engine
from stages.panelling.alfworld.generator import Goal

OVERLAY = """
warmup: {cells: [alfworld_react]}
axes: {cell: [alfworld_react], retrieval: [rag]}
panels:
  alfworld: {official: {data_dir: games, train: 4, dev: 1, counts: {train: 6, valid_seen: 1, valid_unseen: 1}}}
  webshop: null
model: {source: model}
agent: {shots: {alfworld: 0, webshop: 0}}
engine: {kind: cpu, slots: 4, max_new_tokens: 64, context: 4000}
runner: {max_turns: {alfworld: 9, webshop: 15}}
students: {alfworld: {quantize: none}}
stats: {bootstrap: 100}
hints: {llm: {url: "URL", model: tiny}}
"""
# In one small bathroom: openings of few bytes, four steps a game.
LEARNT = [
    Goal("pick_and_place_simple", 401, thing, place)
    for thing, place in (
        *(("SoapBar", "BathtubBasin"), ("Candle", "Shelf")),
        *(("HandTowel", "BathtubBasin"), ("ToiletPaper", "GarbageCan")),
    )
]
UNKNOWN = goals("heat", 3)
GAMES = {
    "train": dict.fromkeys([*LEARNT[:3], *UNKNOWN], 1),
    "valid_seen": {LEARNT[3]: 1},
    "valid_unseen": {goals("cool", 1, unseen=True)[0]: 1},
}


def won(goal: Any, cache: Path) -> list[Message]:
    """A won game of this goal as ReAct plays it, with thoughts that take few bytes."""
    agent, engine = get("react", "alfworld"), Engine(cache)
    frame = engine.start(json.loads(game_of(goal).files["game.tw-pddl"]))
    opening = frame.text.removeprefix("-= Welcome to TextWorld, ALFRED! =-").strip()
    messages, explorer = agent.prompt(opening, ()).messages(), Explorer(opening)
    while not frame.won:
        _, action = explorer.decide()
        messages.append(Message("assistant", agent.render("On.", action, {}), train=True))
        frame = engine.step(action)
        explorer.observe(action, frame.text)
        messages.append(Message("user", frame.text))
    return messages[:-1]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository of the project with the profile, games and model."""
    copy_project(tmp_path, monkeypatch)
    write_official(tmp_path / "games", GAMES)
    save_by_heart(tmp_path / "model", [won(goal, tmp_path / ".cache" / "alfworld") for goal in LEARNT[:3]])
    subprocess.run(["git", "init", "-q"], check=True)
    assert dvc(["init", "-q"]) == 0
    with serving() as server:
        server.answer = said_by(lambda messages: json.dumps({"hints": ["Go to {place} and look.", "Be quick."]}))
        (tmp_path / "overlay.yaml").write_text(OVERLAY.replace("URL", server.url), encoding="utf-8")
        for profile in (Path("profiles/paper_7b.yaml"), Path("overlay.yaml")):
            assert apply_profile(Path("params.yaml"), profile)
        yield tmp_path


@pytest.mark.slow
def test_the_papers_graph_runs_from_official_games_to_the_report(study: Path) -> None:
    findings = list(examine(load(), rate=None))
    assert [f for f in findings if f.level == "fault"] == []
    assert any("1 test, 1 test_seen" in f.text for f in findings)

    assert dvc(["repro", "-q"]) == 0
    systems = json.loads(Path("metrics/systems.json").read_text(encoding="utf-8"))
    rows = [*systems["rows"], *systems["other_panels"]]
    names = {(row["system"], row["panel"]) for row in rows}
    assert names == {(s, p) for s in ("base", "rag", "sft", "distilled") for p in ("dev", "test", "test_seen")}
    assert {row["machine_failures"] for row in rows} == {0} and {row["n"] for row in rows} == {1}
    assert all(
        row["panel_source"].startswith("official (json_2.1.2; 6 train") and row["withheld"] == [] for row in rows
    )
    [funnel] = json.loads(Path("metrics/funnel.json").read_text(encoding="utf-8"))["rows"]
    assert funnel["hints"] == funnel["failures"] == funnel["rejected"]["idle"] and funnel["tokens"]["write"] > 0
    assert {row["system"] for row in rows if row["tokens"]["write"]} == {"rag", "distilled"}
    assert funnel["failures"] >= 1 and min(funnel["lessons"].values()) >= 1
    report = Path("report/report.md").read_text(encoding="utf-8")
    assert "benchmark numbers and must not be compared" not in report and "No skill was withheld" in report
    assert "oracle" in report
    assert dvc(["repro", "-q"]) == 0
