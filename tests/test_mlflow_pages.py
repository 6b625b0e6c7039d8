"""MLflow's own pages in a real browser, on the committed figures: what one sees first, and what one or two clicks away.

The episodes and weights behind the figures are made up here, as git does not keep the real ones.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from browser import browse
from fake_study import episode
from finished_pipeline import ADAPTER, write_student
from playwright.sync_api import Page, TimeoutError, expect
from structure import ROOT
from tracked import unused_port

from stages.core.records import Episode, Turn, write
from stages.tracking.study import read_contenders

pytestmark = pytest.mark.slow

# MLflow asks for its user, whom a server without accounts does not have, and for a file that only its own model flavours write.
KNOWN = ("/mlflow/users/current", "path=MLmodel", "ResizeObserver")
EVIL = "<script>window.stolen = 1</script><img src=x onerror='window.stolen = 1'> \x1b[31mred\x1b[0m"
TASKS = 12


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The committed study, recorded; the one address that `./run ui` prints."""
    root = tmp_path_factory.mktemp("study")
    for name in ("metrics", "report"):
        shutil.copytree(ROOT / name, root / name)
    for name in ("params.yaml", "dvc.yaml", "dvc.lock"):
        shutil.copy(ROOT / name, root)
    for contender in read_contenders(root / "metrics" / "systems.json"):
        make_up(root, contender.name, contender.system)
        if contender.is_student:
            write_student(root, ADAPTER, contender.name)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    subprocess.run([sys.executable, "-m", "stages.track"], cwd=root, env=environment, check=True)
    command = [sys.executable, "-m", "stages", "ui", "--port", str(unused_port())]
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        yield serving.stdout.readline().strip()
        serving.terminate()


def make_up(root: Path, folder: str, system: str) -> None:
    """Episodes on the test panel: some that only the hinted and the distilled agent solve; one that says what no page should run."""
    env, agent, *_ = folder.split("_")
    rows = []
    for number in range(TASKS):
        wins = number % 2 == 0 and system in ("rag", "distilled")
        made = episode(system, f"{env}-{number}", "kind", wins, env=env, agent=agent, goal=f"{env} goal {number}")
        if number == 1:
            turn = Turn(9, 9, 0, f"Action: {EVIL}", 3, "stop", EVIL, EVIL, "", False, EVIL, False, [])
            made = episode(system, f"{env}-1", "kind", False, env=env, agent=agent, goal=f"{env} goal 1", turns=[turn])
        rows.append(made)
    write(root / "data" / "evals" / folder / "test.parquet", Episode, rows)


@contextmanager
def opened(address: str) -> Iterator[Page]:
    """A page of MLflow."""
    with browse(1600, 1000, KNOWN) as page:
        page.goto(address)
        greeted(page)
        yield page


def greeted(page: Page) -> None:
    """Close what MLflow shows on a page to whoever comes for the first time."""
    for locator in (
        page.get_by_text("Got it"),
        page.get_by_label("Close", exact=True),
        page.get_by_label("Hide banner"),
    ):
        with suppress(TimeoutError):
            locator.click(timeout=2500)


def rows(page: Page) -> list[str]:
    """The lines of the table of runs from top to bottom, each as its cells' text in a row."""
    expect(page.get_by_text("matching runs")).to_be_visible()
    found: dict[str, list[str]] = {}
    for cell in page.locator(".ag-row").all():
        found.setdefault(str(cell.get_attribute("row-index")), []).append(" ".join(cell.inner_text().split()))
    return [" ".join(cells) for _, cells in sorted(found.items(), key=lambda item: int(item[0]))]


def test_the_first_page_compares_all_systems(served: str) -> None:
    committed = json.loads((ROOT / "metrics" / "systems.json").read_text())["rows"]
    with opened(served) as page:
        for column in (
            "result",
            "tokens",
            "steps",
            "score",
            "known skills",
            "withheld skills",
            "panel",
            "model version",
        ):
            expect(page.get_by_role("columnheader", name=column, exact=True).first).to_be_visible()
        shown = rows(page)
    assert len([line for line in shown if "Group:" in line]) == len({(r["env"], r["agent"]) for r in committed})
    for env in {row["env"] for row in committed}:
        systems = sorted((r for r in committed if r["env"] == env), key=lambda r: -r["success"])
        lines = [line for line in shown if f"{env} " in line and "Group:" not in line]
        for row in systems:
            [line] = [found for found in lines if re.search(rf": {row['system']}\b", found)]
            for text in (f"{100 * row['success']:.1f} %", f"{row['tokens_per_episode']:,.0f}", f"{row['n']} tasks"):
                assert text in line, (text, line)
        order = [float(re.search(r"([\d.]+) %", line)[1]) for line in lines]  # type: ignore[index]
        assert order == sorted(order, reverse=True)


def test_an_episodes_turns_are_two_clicks_away_and_what_is_in_them_is_text(served: str) -> None:
    with opened(served) as page:
        page.get_by_text("Traces", exact=True).first.click()
        greeted(page)
        page.get_by_text("webshop goal 1", exact=True).first.click()
        expect(page.get_by_text("environment 1")).to_be_visible()
        page.get_by_text("environment 1").click()
        expect(page.get_by_text("<script>window.stolen").first).to_be_visible()
        assert page.evaluate("window.stolen") is None


def test_two_systems_stand_side_by_side_task_by_task(served: str) -> None:
    with opened(served) as page:
        page.goto(served.replace("/runs?", "/evaluation-runs?").split("?")[0])
        for name in ("alfworld react: base", "alfworld react: distilled, seed 0"):
            page.get_by_role("row").filter(has_text=name).get_by_role("checkbox").click()
        page.get_by_text("Actions", exact=True).first.click()
        page.get_by_text("Compare", exact=True).first.click()
        expect(page.get_by_text("base: failed after 2 steps").first).to_be_visible()
        expect(page.get_by_text("distilled: solved after 2 steps").first).to_be_visible()


def test_the_overview_has_tokens_and_success(served: str) -> None:
    with opened(served) as page:
        page.get_by_text("Overview", exact=True).first.click()
        expect(page.get_by_text("Tokens per Trace")).to_be_visible()
        page.goto(page.url.replace("/usage", "/quality"))
        expect(page.get_by_text("success").first).to_be_visible()
        expect(page.get_by_text("reward").first).to_be_visible()


def test_a_model_version_says_what_it_is(served: str) -> None:
    with opened(served) as page:
        page.goto(f"{served.split('#')[0]}#/models/hintdistill-alfworld-react-distilled/versions/1")
        expect(page.get_by_text("A LoRA adapter for alfworld react")).to_be_visible()
        expect(page.get_by_text("champion").first).to_be_visible()
