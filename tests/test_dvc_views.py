"""What DVC shows of the committed results: plots, in a real browser that reaches nothing but this machine, and tables that fit a terminal."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from browser import browse
from project import commit, run
from structure import ROOT


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What DVC reads to show results: the graph, its templates and its page, the committed tables. In a second commit the base agent does better."""
    for name in ("stages/reporting/templates", "metrics", ".dvc/plots"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("dvc.yaml", "params.yaml", ".dvc/config", ".dvc/.gitignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    run("git", "init", "-q")
    run("git", "config", "user.email", "test@example.org")
    run("git", "config", "user.name", "test")
    commit("before")
    table = Path("metrics/plots/systems.csv")
    head, first, *others = table.read_text(encoding="utf-8").splitlines()
    name, _, *rest = first.split(",")
    table.write_text("\n".join([head, ",".join([name, "0.99", *rest]), *others]) + "\n", encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "revisions"), [(["show"], {"workspace"}), (["diff", "HEAD"], {"HEAD", "workspace"})]
)
def test_plots_are_drawn_without_a_network(project: None, command: list[str], revisions: set[str]) -> None:
    page_file = run("dvc", "plots", *command).strip().removeprefix("file://")
    with browse() as page:
        page.goto(f"file://{page_file}")
        page.wait_for_function("document.querySelectorAll('.vega-embed canvas').length == 3")
        pictures = page.locator(".vega-embed canvas").evaluate_all(
            "all => all.map(c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size)"
        )
    assert min(pictures) > 20, "a canvas with a chart has many shades"
    drawn = Path(page_file).read_text(encoding="utf-8").rpartition("<body>")[2]
    assert set(re.findall(r'"rev": ?"(\w+)"', drawn)) == revisions


@pytest.mark.slow
def test_the_deciding_figures_fit_a_terminal(project: None) -> None:
    longest = Path("metrics/summary/alfworld_stateact")  # of all cells
    shutil.copytree("metrics/summary/alfworld_react", longest)
    commit("another cell")
    (longest / "distilled.json").write_text('{"success": 0.123456789, "tokens": 12345.6789, "p": 1e-12}')
    show, diff = run("dvc", "metrics", "show"), run("dvc", "metrics", "diff", "HEAD")
    assert "metrics/summary/alfworld_stateact/distilled.json" in show and "0.12346" in diff
    assert max(len(line.rstrip()) for line in (show + diff).splitlines()) <= 120
