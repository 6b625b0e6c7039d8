"""The figures one decides by, out of rows of systems and contrasts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from fake_study import run

from stages.stats.headline import headline
from stages.stats.systems import Study, system_row

STUDY = Study(withheld=("heat",), strength="full", panel_source="generated", graded=True)


def graded_rows(system: str, scores: Sequence[float]) -> list[dict[str, Any]]:
    """A graded system's rows, one a seed, with these scores; it solves what needs no withheld skill."""
    rows = []
    for seed, score in enumerate(scores):
        episodes = run(system, lambda task, category: category == "put", env="webshop", agent="act", seed=seed)
        paid = [dataclasses.replace(e, reward=score / 100) for e in episodes]
        rows.append(dataclasses.asdict(system_row(paid, STUDY, "")))
    return rows


def test_at_most_a_dozen_figures_decide_a_cell_and_students_are_means_over_seeds() -> None:
    scores = {"base": [50.0], "rag": [60.0], "random": [55.0], "sft": [50.0, 52.0], "distilled": [58.0, 61.0]}
    rows = [row for system, found in scores.items() for row in graded_rows(system, found)]
    primary = {"env": "webshop", "agent": "act", "a": "distilled", "b": "sft", "difference": 8.5, "p_value": 0.25}
    others = {**primary, "a": "rag", "b": "base", "primary": False}
    assert headline(rows, [{**primary, "primary": True}, others]) == {
        "webshop_act": {
            "base": {"success": 0.5, "withheld": 0.0, "score": pytest.approx(50)},
            "rag": {"score": pytest.approx(60), "tokens": 260},
            "sft": {"score": pytest.approx(51)},
            "distilled": {
                **{"success": 0.5, "withheld": 0.0, "score": pytest.approx(59.5), "tokens": 260},
                **{"minus_sft": 8.5, "p": 0.25},
            },
        }
    }


def test_a_study_without_a_warm_up_and_with_one_arm_has_fewer_figures() -> None:
    row = dataclasses.asdict(system_row(run("distilled", lambda task, category: True), Study(), ""))
    assert headline([row], []) == {"alfworld_react": {"distilled": {"success": 1.0, "tokens": 260.0}}}
