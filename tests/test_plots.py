"""DVC's plots of the committed results in a real browser that reaches nothing but this machine."""

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
    """What `dvc plots` reads: the graph, its templates and its page, the committed tables. In a second commit the base agent does better."""
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
