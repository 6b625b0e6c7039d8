"""The whole graph with a model's hints: one that writes what the rules do makes as good a study as they."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import FakeServer, Say, chat, serving, words
from project import enter, run

from stages.core.params import load
from stages.core.records import BankEntry, Episode, Hint, read
from stages.hinting import prompting
from stages.hinting.base import ProbeRecord
from stages.hinting.contrast import beside

pytestmark = pytest.mark.slow

CELL = "alfworld_react"
PLAYED = (
    f"data/teacher/{CELL}/rag/episodes.parquet",
    f"data/evals/{CELL}_rag/test.parquet",
    f"data/evals/{CELL}_rag/dev.parquet",
)
WRITER = """
hints: {{writer: llm, llm: {{url: {url}, key_variable: NO_SUCH_KEY, retries: 0}}}}
"""


@pytest.fixture
def study(small_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the finished study, which is the working directory."""
    shutil.copytree(small_study, tmp_path / "project", symlinks=True)
    enter(tmp_path / "project", monkeypatch)


@pytest.fixture
def writer(study: None) -> Iterator[FakeServer]:
    """A server that answers for each failure of the study what the rules wrote of it."""
    by_failure: dict[str, list[str]] = {}
    for hint in read(Path(f"data/hints/{CELL}/hints.parquet"), Hint):
        by_failure.setdefault(hint.episode_id, []).append(hint.text)
    episodes = read(Path(f"data/rollouts/{CELL}/episodes.parquet"), Episode)
    probes = {p.episode_id: p for p in read(Path(f"data/hints/{CELL}/probes.parquet"), ProbeRecord)}
    settings = load().hints
    failed = [e for e in episodes if not e.success]
    answers = {
        prompting.prompt(f, settings, 99)[1].content: by_failure.get(f.episode.episode_id, [])
        for f in beside(failed, probes, episodes, settings.evidence)
    }

    def answer(body: dict[str, list[dict[str, str]]]) -> Say:
        asked = body["messages"][1]["content"]
        text = json.dumps({"hints": answers[asked]})
        return chat(text, prompt=words(asked), reply=words(text))

    with serving() as server:
        server.answer = answer
        yield server


def solved() -> list[list[tuple[str, bool]]]:
    return [[(e.task_id, e.success) for e in read(Path(path), Episode)] for path in PLAYED]


def bank() -> set[tuple[str, str, int]]:
    return {(e.category, e.text, e.count) for e in read(Path(f"data/hints/{CELL}/bank.parquet"), BankEntry)}


def test_a_model_that_writes_what_the_rules_do_reaches_their_success(writer: FakeServer) -> None:
    wanted, by_rules = solved(), bank()
    Path("profiles/writer.yaml").write_text(WRITER.format(url=writer.url), encoding="utf-8")
    run("python", "-m", "stages", "profile", "writer")
    run("dvc", "repro")
    assert json.loads(Path(f"data/hints/{CELL}/writer.json").read_text())["writer"] == "llm"
    assert bank() == by_rules
    assert solved() == wanted and any(success for played in wanted for _, success in played)
    rows = {row["system"]: row for row in json.loads(Path("metrics/systems.json").read_text())["rows"]}
    assert rows["rag"]["tokens"]["write"] > 0 and rows["base"]["tokens"]["write"] == 0
