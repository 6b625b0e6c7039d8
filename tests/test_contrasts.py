"""Contrasts: pairing, families, seeds, subsets by skill; refusals of what cannot be paired."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from fake_study import broken, run

from stages.core.records import Episode
from stages.stats.contrasts import ContrastRow, contrast_row, contrast_rows, skill_rows
from stages.stats.systems import ComparisonError


def known(task: str, category: str) -> bool:
    return category == "put"


def everything(task: str, category: str) -> bool:
    return True


def find(rows: Sequence[ContrastRow], a: str, b: str, metric: str) -> ContrastRow:
    return next(r for r in rows if (r.a, r.b, r.metric) == (a, b, metric))


def test_the_primary_contrast_is_exact_mcnemar_on_paired_tasks() -> None:
    rows = contrast_rows([run("sft", known), run("distilled", everything)], 2000, 3)
    row = find(rows, "distilled", "sft", "success")
    assert (row.primary, row.n, row.seeds, row.test, row.p_holm) == (True, 12, 1, "mcnemar", None)
    assert (row.mean_a, row.mean_b, row.difference) == (1.0, 0.5, 0.5)
    assert (row.only_a, row.only_b) == (6, 0)
    assert row.p_value == pytest.approx(2 / 2**6)
    assert row.low is not None and row.high is not None
    assert 0.1 < row.low < 0.5 < row.high < 0.9
    assert [(r.a, r.b, r.metric) for r in rows] == [("distilled", "sft", "success"), ("distilled", "sft", "tokens")]


def test_tokens_are_compared_by_sign_flips() -> None:
    rows = contrast_rows([run("rag", known, retrieve_tokens=40), run("distilled", known)], 2000, 3)
    row = find(rows, "distilled", "rag", "tokens")
    assert (row.difference, row.low, row.high, row.test) == (-40.0, -40.0, -40.0, "sign_flip")
    assert (row.only_a, row.only_b) == (None, None)
    # 4096 sign patterns are more than 2000 draws, so the smallest p is twice (0 + 1) / 2001 or little above.
    assert row.p_value < 0.005


def test_holm_covers_all_but_the_primary_contrast() -> None:
    runs = [run("base", known), run("rag", everything), run("sft", known), run("distilled", everything)]
    rows = contrast_rows(runs, 500, 3)
    family = [r for r in rows if not r.primary]
    assert [r.primary for r in rows].count(True) == 1
    assert len(family) == 9  # five pairs, two metrics each, less the primary one
    smallest = min(family, key=lambda r: r.p_value)
    assert smallest.p_holm == pytest.approx(9 * smallest.p_value)


def test_the_primary_contrast_belongs_to_the_test_panel_and_the_environments_metric() -> None:
    dev = contrast_rows([run("sft", known, "dev"), run("distilled", everything, "dev")], 100, 3)
    assert not any(r.primary for r in dev)
    runs = [run("sft", known, env="webshop"), run("distilled", everything, env="webshop")]
    shop = contrast_rows(runs, 100, 3, graded=True)
    assert [r.metric for r in shop if r.primary] == ["score"]
    assert find(shop, "distilled", "sft", "score").difference == 50.0


def test_seeds_are_paired_with_seeds_and_an_untrained_system_with_each() -> None:
    runs = [run("base", known)]
    runs += [run("sft", known, seed=seed) for seed in (0, 1)]
    runs += [run("distilled", everything, seed=0), run("distilled", known, seed=1)]
    rows = contrast_rows(runs, 1000, 3)
    for b in ("sft", "base"):
        row = find(rows, "distilled", b, "success")
        assert (row.seeds, row.n, row.difference, row.test) == (2, 12, 0.25, "two_way")
        assert (row.only_a, row.only_b) == (6, 0)


def test_a_task_broken_on_one_side_leaves_the_pair() -> None:
    sft = run("sft", known)
    rows = contrast_rows([[broken(sft[0]), *sft[1:]], run("distilled", everything)], 100, 3)
    row = find(rows, "distilled", "sft", "success")
    assert (row.n, row.dropped) == (11, 1)
    assert row.mean_b == pytest.approx(5 / 11)


def test_another_system_leaves_a_contrasts_figures_alone() -> None:
    two = [run("sft", known), run("distilled", everything)]
    assert contrast_rows([*two, run("rag", known)], 300, 3)[0] == contrast_rows(two, 300, 3)[0]


def test_seeds_that_disagree_are_no_evidence_beyond_these_students() -> None:
    runs = [run("base", known), run("distilled", everything, seed=0), run("distilled", known, seed=1)]
    row = find(contrast_rows(runs, 1000, 3), "distilled", "base", "success")
    assert (
        row.low is not None and row.low < 0 and row.p_value > 0.2
    )  # by tasks alone, six of them won and none lost: 2 / 2**6
    agreeing = [run("base", known), *(run("distilled", everything, seed=seed) for seed in (0, 1))]
    row = find(contrast_rows(agreeing, 1000, 3), "distilled", "base", "success")
    assert row.low is not None and row.low > 0 and row.p_value == pytest.approx(2 / 2**6, abs=0.02)


def test_no_bound_lies_where_no_difference_can() -> None:
    runs = [run("base", lambda t, c: False), run("distilled", everything, seed=0), run("distilled", known, seed=1)]
    row = find(contrast_rows(runs, 1000, 3), "distilled", "base", "success")
    assert (row.difference, row.high) == (0.75, 1.0)


def test_students_of_other_seeds_are_not_paired() -> None:
    runs = [run("sft", known, seed=0), *(run("distilled", known, seed=seed) for seed in (0, 1))]
    with pytest.raises(ComparisonError, match=r"react on test: distilled seeds 0, 1 and sft seeds 0; .* \(axes.seed\)"):
        contrast_rows(runs, 100, 3)


def test_a_run_without_a_compared_task_is_named() -> None:
    sides = [(run("distilled", known, seed=4), run("sft", known, seed=4)[1:])]
    with pytest.raises(ComparisonError, match=r"react sft_s4 on test: 1 tasks not played .* \(first: put-0\)"):
        contrast_row(sides, ["put-0", "put-1"], "success", 100, 3, graded=False)


def test_without_a_task_that_both_played_to_its_end_there_is_no_row() -> None:
    base, student = run("base", known), run("distilled", known)
    apart = [[*map(broken, base[:6]), *base[6:]], [*student[:6], *map(broken, student[6:])]]
    assert contrast_rows(apart, 100, 3) == [] == skill_rows(apart, ["heat"], 100, 3)


def student(name: str, seed: int = 0) -> list[Episode]:
    """Solves all of the withheld skill, and lost one task of the known one."""
    return run(name, lambda task, category: task != "put-0", seed=seed)


def test_what_was_lost_stands_beside_what_was_gained() -> None:
    runs = [run("base", known), run("sft", known), run("rag", everything), student("distilled")]
    rows = skill_rows(runs, ["heat"], 500, 3)
    found = {(r.a, r.tasks): (r.n, r.difference, r.only_a, r.only_b) for r in rows}
    assert found == {
        ("sft", "known"): (6, 0.0, 0, 0),
        ("sft", "withheld"): (6, 0.0, 0, 0),
        ("distilled", "known"): (6, pytest.approx(-1 / 6), 0, 1),
        ("distilled", "withheld"): (6, 1.0, 6, 0),
    }
    assert {(r.b, r.metric, r.primary, r.p_holm, r.dropped) for r in rows} == {("base", "success", False, None, 0)}
    [lost] = [r for r in rows if (r.a, r.tasks) == ("distilled", "known")]
    assert lost.low is not None and lost.low < lost.difference < 0 == lost.high
    whole = contrast_rows(runs, 500, 3)
    assert {r.tasks for r in whole} == {"all"}
    by_score = skill_rows([run("base", known), student("distilled")], ["heat"], 100, 3, graded=True)
    assert {(r.metric, r.tasks) for r in by_score} == {("score", "known"), ("score", "withheld")}


def test_all_seeds_of_a_student_count_towards_what_it_lost() -> None:
    runs = [run("base", known), student("distilled", 0), run("distilled", everything, seed=1)]
    [lost] = [r for r in skill_rows(runs, ["heat"], 500, 3) if r.tasks == "known"]
    assert (lost.seeds, lost.difference) == (2, pytest.approx(-1 / 12))


@pytest.mark.parametrize("withheld", [[], ["cool"], ["put", "heat"]])
def test_a_panel_of_one_kind_of_skill_has_nothing_apart(withheld: list[str]) -> None:
    assert skill_rows([run("base", known), student("distilled")], withheld, 100, 3) == []


def test_what_a_panel_could_show_stands_beside_what_it_showed() -> None:
    runs = [run("base", known), run("distilled", everything)]
    success, tokens = contrast_rows(runs, 500, 3)
    assert success.detectable is not None and success.difference < success.detectable <= 1
    assert tokens.detectable is None  # all equal
    five = [task.task_id for task in runs[0][:5]]
    assert contrast_row([(runs[1], runs[0])], five, "success", 100, 3, graded=False).detectable is None
