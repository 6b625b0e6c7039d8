"""A small made-up study on disk, as the report stage finds it: metric files and the episodes, hints, lessons and curves behind them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest
from fake_study import SHA, TASKS, entry, episode, hint, lesson, run

from stages import metrics, report
from stages.core.arms import ARMS, Retrieval
from stages.core.records import BankEntry, Episode, Hint, Lesson, Turn, write
from stages.reporting.cells import CellReport
from stages.stats.contrasts import contrast_rows, skill_rows
from stages.stats.funnel import FunnelRow, LessonSet, funnel_row
from stages.stats.systems import Panel, Study, label, system_row

STUDY = Study(withheld=("heat",), strength="full", panel_source="generated")
CELL = "alfworld_react"
HINTS = [hint(0, "unused_action"), hint(1, "refused")]
BANK = [dataclasses.replace(entry(1, ["h0", "h1"]), episode_ids=["base-heat-0", "base-heat-1"])]


def known(task: str, category: str) -> bool:
    return category == "put"


def everything(task: str, category: str) -> bool:
    return True


def heated(found: Episode) -> Episode:
    """The same episode with another second turn than `fake_study` gives."""
    turn = Turn(
        140, 20, 0, "Action: heat", 10, "stop", "It must be hot.", "heat", "", False, "It is hot.", True, ["go"]
    )
    return dataclasses.replace(found, turns=[found.turns[0], turn])


def system(name: str, panel: str = "test", seed: int = 0) -> list[Episode]:
    """A system's run: rag and distilled solve everything, with another second turn at heat tasks; others what is known."""
    if name not in ("rag", "distilled"):
        return run(name, known, panel, seed=seed)
    shown = {"hint_ids": ["b1"], "hints": ["Heat it."]} if name == "rag" else {}
    found = run(name, everything, panel, seed=seed, retrieve_tokens=50 * (name == "rag"), **shown)
    return [heated(e) if e.category == "heat" else e for e in found]


def lessons() -> dict[str, list[Lesson]]:
    own = dataclasses.replace(lesson("sft", "put-1", "put"), episode_id="base-put-1")
    taught = [
        dataclasses.replace(lesson("distilled", task, category), episode_id=f"rag-{task}", hint_ids=["b1"])
        for task, category in TASKS
    ]
    return {"sft": [own], "distilled": taught}


def funnel(
    hints: Sequence[Hint] = HINTS,
    bank: Sequence[BankEntry] = BANK,
    others: Mapping[Retrieval, Sequence[Episode]] = MappingProxyType({}),
) -> FunnelRow:
    checked = {arm: {"leak": {"checked": len(made), "failed": 0}} for arm, made in lessons().items()}
    dropped = {"sft": {}, "distilled": {"too many refusals": 3}}
    arms = {arm: LessonSet(made, checked[arm], dropped[arm]) for arm, made in lessons().items()}
    panel = Panel(SHA["train"], frozenset(task for task, _ in TASKS))
    return funnel_row(
        panel, system("base", "train"), system("rag", "train"), hints, bank, [], arms, STUDY, 2, others=others
    )


def whole_study() -> list[list[Episode]]:
    return [system(name, panel) for panel in ("dev", "test") for name in ("distilled", "base", "sft", "rag")]


def write_study(
    root: Path,
    runs: list[list[Episode]],
    ways: list[FunnelRow],
    study: Study = STUDY,
    hints: Sequence[Hint] = HINTS,
    bank: Sequence[BankEntry] = BANK,
) -> None:
    """Metrics of these runs and funnels, and all that they were counted from."""
    by_panel = {panel: [r for r in runs if r[0].panel == panel] for panel in ("dev", "test")}
    contrasts = [row for found in by_panel.values() for row in contrast_rows(found, 200, 3, study.graded)]
    contrasts += [row for found in by_panel.values() for row in skill_rows(found, study.withheld, 200, 3, study.graded)]
    if ways:
        contrasts += contrast_rows([system("base", "train"), system("rag", "train")], 200, 3, study.graded)
    reported = {"alfworld": metrics.reported_panel([r[0].panel for r in runs])}
    metrics.write_all(root / "metrics", [system_row(r, study, "c0ffee") for r in runs], contrasts, ways, reported)
    data = root / "data"
    for played in runs:
        first = played[0]
        name = f"{CELL}_{label(first.system, first.seed)}"
        write(data / "evals" / name / f"{first.panel}.parquet", Episode, played)
        if first.system in ARMS and ways:
            curve = data / "students" / name / "curve.jsonl"
            curve.parent.mkdir(parents=True, exist_ok=True)
            curve.write_text("".join(json.dumps({"step": s, "loss": 1 / s}) + "\n" for s in (1, 2, 3)))
    if ways:
        write(data / "rollouts" / CELL / "episodes.parquet", Episode, system("base", "train"))
        write(data / "teacher" / CELL / "rag" / "episodes.parquet", Episode, system("rag", "train"))
        write(data / "hints" / CELL / "hints.parquet", Hint, hints)
        write(data / "hints" / CELL / "bank.parquet", BankEntry, bank)
        for arm, made in lessons().items():
            write(data / "lessons" / f"{CELL}_{arm}" / "lessons.parquet", Lesson, made)


def cell_of(root: Path) -> CellReport:
    """The study as the report reads it."""
    return report.read_cells(root / "metrics")[0]


def at_the_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as the project's root, where the stage is started."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["report"])
    (folder / "dvc.yaml").touch()
    return folder


EVIL = "<script>alert('no')</script> \x1b[31mred\x1b[0m <img src=x onerror=alert(1)> | `x` [a](b)"


def hostile(name: str) -> list[Episode]:
    """A run in which whatever a model or a site can write holds markup and escapes."""
    turn = Turn(9, 9, 0, EVIL, 9, "stop", EVIL, EVIL, "", False, EVIL, True, [EVIL])
    texts = {"goal": EVIL, "opening": EVIL, "hints": [EVIL], "hint_ids": ["b1"], "model": EVIL}
    return [episode(name, "put-0", EVIL, False, turns=[turn], **texts)]
