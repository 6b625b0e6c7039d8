"""What the report answers, on which tasks and panel; what it shows of several seeds and of a large panel."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from fake_study import broken, run
from made_report import CELL, STUDY, at_the_root, cell_of, funnel, known, system, whole_study, write_study

from stages import report
from stages.reporting import episodes, figures, pages, tables, words
from stages.reporting.verdict import verdict


def test_the_answer_follows_from_the_primary_contrast(tmp_path: Path) -> None:
    write_study(tmp_path, [system(name) for name in ("base", "rag", "sft", "distilled")], [])
    found = verdict(cell_of(tmp_path))
    assert (found.tone, found.sign) == ("partly", "◐")  # Holm leaves the difference to base in doubt
    write_study(tmp_path, [run("sft", lambda t, c: True), run("distilled", known)], [])
    assert verdict(cell_of(tmp_path)).tone == "no"
    write_study(tmp_path, [run("sft", known), run("distilled", known)], [])
    assert verdict(cell_of(tmp_path)).answer.startswith("Not shown")
    write_study(tmp_path, [run("sft", known), system("distilled")], [])
    assert verdict(cell_of(tmp_path)).answer.startswith("Yes: distilled")
    write_study(tmp_path, [run("sft", known), system("distilled")], [], dataclasses.replace(STUDY, graded=True))
    graded = verdict(cell_of(tmp_path))
    assert (
        graded.answer.startswith("Yes, by score") and "+50.0 points of success" in dict(graded.points)["Solved in full"]
    )


def test_an_answer_from_another_panel_is_not_the_declared_one(tmp_path: Path) -> None:
    write_study(tmp_path, [system("sft", "dev"), system("distilled", "dev")], [])
    found = verdict(cell_of(tmp_path))
    assert found.answer.startswith("Not shown (on the dev panel, for choices only): distilled")
    assert found.differences and found.differences.marked == frozenset()
    assert "; all are corrected (Holm)." in found.differences.note
    write_study(tmp_path, whole_study(), [])
    cell = cell_of(tmp_path)
    assert "Holm corrects all contrasts," in tables.contrasts_by_metric(cell.other_contrasts)[0].note
    assert "Holm corrects all but the contrast declared" in tables.contrasts_by_metric(cell.contrasts)[0].note
    assert "only)" not in verdict(cell).answer


def test_all_different_numbers_of_tasks_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = system("base")
    write_study(tmp_path, [[*map(broken, base[:3]), *base[3:]], system("sft"), system("distilled")], [])
    found = verdict(cell_of(tmp_path)).differences
    assert found and "Points of success on 12 and 9 paired tasks" in found.note
    at_the_root(tmp_path, monkeypatch)
    assert report.main() == 0
    assert "Solved of 9 and 12 test tasks" in Path("report/index.html").read_text(encoding="utf-8")


def test_what_was_gained_stands_beside_what_was_lost_and_what_hints_foretold(tmp_path: Path) -> None:
    lost = run("distilled", lambda task, category: task != "put-0")
    write_study(
        tmp_path, [system("base"), system("sft"), lost, system("distilled", "dev"), system("base", "dev")], [funnel()]
    )
    cell = cell_of(tmp_path)
    table = tables.gained_and_lost(cell)
    assert table and "6 tasks of withheld and 6 of known skills" in table.note
    assert [line[0] for line in table.lines] == ["sft", "distilled"]
    assert table.lines[0][1:] == ["+0.0 (no task differs)"] * 2
    assert table.lines[1][1] == "+100.0 (+100.0 to +100.0)" and table.lines[1][2].startswith(f"{words.MINUS}16.7 (")
    gains = tables.predicted(cell)
    assert gains and [(line[0], line[1].split()[0], line[2]) for line in gains.lines] == [
        ("predicted: hints against none", "+50.0", "12 train"),
        ("measured: distilled against base", "+41.7", "12 test"),
        ("measured: distilled against sft", "+41.7", "12 test"),
    ]
    assert {len(tables.contrasts_by_metric(cell.contrasts)[0].lines)} == {3}  # rows by skill stand in no other table


def test_nothing_is_foretold_or_told_apart_by_skill_where_that_was_not_measured(tmp_path: Path) -> None:
    write_study(tmp_path, [system("base"), system("rag")], [funnel()])
    cell = cell_of(tmp_path)
    assert tables.gained_and_lost(cell) is None is tables.predicted(cell)
    write_study(tmp_path, [system("base"), system("distilled")], [])
    assert tables.predicted(cell_of(tmp_path)) is None


def test_an_answer_says_how_small_a_difference_its_panel_could_show(tmp_path: Path) -> None:
    write_study(tmp_path, [run("sft", known), run("distilled", known)], [])
    said = dict(verdict(cell_of(tmp_path)).points)["Power"]
    assert re.fullmatch(
        r"In four of five studies, 12 tasks like these show a difference of 5\d\.\d points of success .*", said
    )
    seeds = [run(arm, known, seed=seed) for arm in ("sft", "distilled") for seed in (0, 1)]
    write_study(tmp_path, seeds, [])
    assert "Power" not in dict(verdict(cell_of(tmp_path)).points)  # no two runs differ
    write_study(tmp_path, [*seeds[:3], run("distilled", lambda t, c: t != "put-0", seed=1)], [])
    assert "12 tasks and 2 trainings like these" in dict(verdict(cell_of(tmp_path)).points)["Power"]


def test_withheld_skills_that_no_task_calls_for_are_left_out(tmp_path: Path) -> None:
    write_study(tmp_path, [system("base"), system("rag")], [], dataclasses.replace(STUDY, withheld=("cool",)))
    cell = cell_of(tmp_path)
    assert [heading for heading, _ in verdict(cell).points] == ["Cost"]
    assert "skills" not in figures.figures(cell, {})
    assert tables.headline(cell, cell.systems).columns == ["System", "Solved (95 %)", "Tokens an episode"]


def test_seeds_have_markers_and_lines_of_their_own(tmp_path: Path) -> None:
    write_study(tmp_path, [run("sft", known, seed=seed) for seed in (3, 4, 5)], [])
    cell = cell_of(tmp_path)
    curves = {f"sft_s{seed}": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}] for seed in (3, 4, 5)}
    learning = figures.learning(curves)
    for svg in (figures.tokens(cell), figures.categories(cell), learning):
        *entries, _ = svg[svg.index('<g id="legend_1">') :].split("<text")
        assert len({tuple(re.findall(r'href="#(m\w+)"', entry)) for entry in entries}) == len(entries) == 3
    assert len(set(re.findall(r"stroke-dasharray: [\d., ]+", learning))) == 2


def test_of_a_large_panel_the_first_tasks_are_kept_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episodes, "MOST_TASKS", 8)
    write_study(tmp_path, [system("base"), system("rag")], [])
    cell = cell_of(at_the_root(tmp_path, monkeypatch))
    [found] = pages.episode_sets(cell, report.recorded(cell)).values()
    assert (len(found["tasks"]), found["left_out"]) == (8, 4)
    assert all(len(column["episodes"]) == 8 for column in found["columns"])
    [(said, _)] = pages.links(f"{CELL}.test", found)
    assert said == "rag solves, base fails: 2 of the first 8 tasks"
