"""A system on its panels: played in one go, kept apart, and played anew once they are written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from household import hint_of
from ladder import FakeEngine, World, task, up
from structure import ROOT

from stages import teacher
from stages.core.params import Cell, load
from stages.core.records import BankEntry, Episode, read, write
from stages.envs.panel import load_panel, write_panels
from stages.hinting.bank import build_bank
from stages.models.hub import ModelError
from stages.runner import study
from stages.runner.study import Runner, System


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A project folder with two panels of ladders and a base model's identity."""
    monkeypatch.chdir(tmp_path)
    Path("data/base/model").mkdir(parents=True)
    identity = {"source": "tiny", "weights_sha256": "ab" * 32}
    Path("data/base/model/identity.json").write_text(json.dumps(identity), encoding="utf-8")
    Path("data/panels/alfworld").mkdir(parents=True)
    panels = {name: [task(n, panel=name) for n in numbers] for name, numbers in (("dev", (1, 2)), ("test", (3, 4, 5)))}
    write_panels(Path("data/panels/alfworld"), "alfworld", "generated", panels)
    world = World()
    monkeypatch.setattr(study, "make", lambda env, root: world.make())
    monkeypatch.setattr(study, "open_engine", lambda settings, cell, adapter: FakeEngine(up))
    return world


def runner() -> Runner:
    return Runner(load(ROOT / "params.yaml"), Cell("alfworld_react"), System("base"))


def test_panels_are_played_together_and_kept_apart(world: World) -> None:
    runs, facts = runner().play("dev", "test")
    assert {panel: [e.task_id for e in run] for panel, run in runs.items()} == {
        "dev": ["t1", "t2"],
        "test": ["t3", "t4", "t5"],
    }
    for panel, run in runs.items():
        assert {(e.panel, e.panel_sha256) for e in run} == {(panel, load_panel(Path("data/panels/alfworld"), panel)[1])}
        assert {e.model for e in run} == {"tiny@abababababab"}
    assert (facts["episodes"], facts["resumed"], facts["successes"]) == (5, 0, 5)


def test_what_was_not_written_is_resumed_and_what_was_is_played_anew(world: World) -> None:
    runner().play("dev")
    again = runner()
    runs, facts = again.play("dev")
    assert (facts["resumed"], len(world.resets)) == (2, 2)
    again.write(Path("data/evals/x"), "evaluate", runs, facts)
    assert read(Path("data/evals/x/dev.parquet"), Episode) == runs["dev"]
    assert json.loads(Path("data/timing/evaluate_x.json").read_text(encoding="utf-8")) == facts
    _, facts = runner().play("dev")
    assert (facts["resumed"], len(world.resets)) == (0, 4)


def test_where_a_server_is_does_not_make_other_episodes_and_its_model_does(world: World) -> None:
    def resumed(**server: object) -> object:
        settings = load(ROOT / "params.yaml")
        engine = settings.engine.model_copy(
            update={"kind": "server", "server": settings.engine.server.model_copy(update=server)}
        )
        return Runner(settings.model_copy(update={"engine": engine}), Cell("alfworld_react"), System("base")).play(
            "dev"
        )[1]["resumed"]

    assert resumed(model="small") == 0
    assert (
        resumed(
            model="small",
            url="http://elsewhere/v1",
            key_variable="OTHER",
            timeout=1.0,
            retries=0,
            student="{base}:{name}",
        )
        == 2
    )
    assert resumed(model="large") == 0


def test_each_teacher_has_a_folder_of_its_own_below_the_cells(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    write_panels(Path("data/panels/alfworld"), "alfworld", "generated", {"train": [task(n) for n in (1, 2, 3)]})
    bank = build_bank([hint_of(text, text, name) for text, name in (("Go up.", "ladder"), ("Heat.", "heat"))], 0.85, {})
    write(Path("data/hints/alfworld_react/bank.parquet"), BankEntry, bank)
    monkeypatch.setattr(study, "load", lambda: load(ROOT / "params.yaml"))
    for way in ("rag", "random"):
        assert teacher.run("alfworld_react", way).startswith("alfworld_react: 3 of 3 tasks solved")
        played = read(Path(f"data/teacher/alfworld_react/{way}/episodes.parquet"), Episode)
        assert {e.system for e in played} == {way} and len(played) == 3
        assert Path(f"data/timing/teacher_alfworld_react_{way}.json").is_file()
    assert {len(e.hint_ids) for e in played} == {2}
    study.play_train("alfworld_react", "rollouts", System("base"))
    assert len(read(Path("data/rollouts/alfworld_react/episodes.parquet"), Episode)) == 3
    assert Path("data/timing/rollouts_alfworld_react.json").is_file()


@pytest.mark.parametrize("way", ["oracle", "rag_wrong"])
def test_hints_of_another_kind_are_shown_and_recorded(world: World, way: str) -> None:
    bank = build_bank([hint_of(text, text, name) for text, name in (("Go up.", "climb"), ("Heat.", "heat"))], 0.85, {})
    write(Path("data/hints/alfworld_react/bank.parquet"), BankEntry, bank)
    runs, _ = Runner(load(ROOT / "params.yaml"), Cell("alfworld_react"), System(way, way)).play("dev")
    for episode in runs["dev"]:
        assert episode.hints and len(episode.hints) == len(episode.hint_ids)
        if way == "oracle":
            assert all(name.startswith("oracle-") for name in episode.hint_ids)
        else:
            categories = {entry.entry_id: entry.category for entry in bank}
            assert episode.category not in {categories[name] for name in episode.hint_ids}


def test_a_missing_base_model_is_named(world: World) -> None:
    Path("data/base/model/identity.json").unlink()
    with pytest.raises(ModelError, match=r"identity\.json: no such file; run `dvc repro base`"):
        runner()
