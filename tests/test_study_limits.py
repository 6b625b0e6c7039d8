"""benchmarks/study.py: what a study's operations take at least."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import study
from fake_study import episode, lesson
from flops import Decoder
from flops import training as training_flops
from structure import ROOT

from stages.core.params import Settings, load
from stages.core.records import Episode, Lesson, write

SMALL = Decoder(layers=2, width=8, heads=2, kv_heads=1, head_dim=4, inner=16, words=50)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    found = load(ROOT / "params.yaml")
    axes = found.axes.model_copy(update={"cell": ["alfworld_react"], "seed": [0, 1]})
    return found.model_copy(update={"axes": axes})


def test_an_episode_s_first_prompt_is_not_counted() -> None:
    # Two turns: 9 and 9 tokens of replies are encoded after 100 and 140 of prompt, 20 tokens of the second prompt before.
    first = 2 * SMALL.body * 9 + SMALL.attention(100, 9) + 2 * SMALL.head * 10
    second = 2 * SMALL.body * 29 + SMALL.attention(120, 29) + 2 * SMALL.head * 10
    found = episode("base", "put-0", "put", True)
    assert study.played(SMALL, [found]) == first + second
    cheaper = dataclasses.replace(found.turns[0], computed_tokens=0)
    assert study.played(SMALL, [dataclasses.replace(found, turns=[cheaper, found.turns[1]])]) == first + second


def test_all_that_was_played_and_all_students_count(settings: Settings) -> None:
    found = episode("base", "put-0", "put", True)
    for folder, name in (("rollouts/alfworld_react", "episodes"), ("evals/alfworld_react_base", "test")):
        write(Path("data") / folder / f"{name}.parquet", Episode, [found])
    write(Path("data/lessons/alfworld_react_sft/lessons.parquet"), Lesson, [lesson("sft", "put-0", "put")] * 3)
    Path("data/timing").mkdir()
    for stage in ("rollouts", "evaluate"):
        Path(f"data/timing/{stage}_alfworld_react.json").write_text(json.dumps({"seconds": 90.0}))
    facts = study.measure(SMALL, settings, gemm_gflops=1e-3)
    playing, training = facts["rows"]
    assert playing["tflop"] == pytest.approx(2 * study.played(SMALL, [found]) / 1e12)
    assert playing["minutes_taken"] == 3.0
    recipe = settings.students["alfworld"]
    expected = 2 * recipe.epochs * training_flops(SMALL, recipe.lora.r, [(50, 20)] * 3)
    assert training["tflop"] == pytest.approx(expected / 1e12)
    assert training["minutes_at_limit"] == pytest.approx(expected / 1e6 / 60)
    assert facts["minutes_at_limit"] == pytest.approx(playing["minutes_at_limit"] + training["minutes_at_limit"])


def test_where_nothing_was_played_it_is_said(settings: Settings) -> None:
    with pytest.raises(SystemExit, match=r"data/rollouts/alfworld_react: nothing was played; run `dvc repro`"):
        study.measure(SMALL, settings, 1.0)
