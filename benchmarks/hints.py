"""Hints compared on the dev panels: who wrote them, from how many failures, how they are chosen, how many are shown.

    python benchmarks/hints.py [--train] [--limit N --out FOLDER]
    python benchmarks/hints.py --page       # README.md and the figure alone, from results.json

Takes data/rollouts, data/panels and data/base of a finished study (`dvc repro`), and makes the banks itself. Writes results.json, README.md and
success.svg; what stands between the verdict's marks in README.md is kept. After a kill it goes on where it was: episodes are kept in
.cache/journal, a model's answers in .cache/answers. The episodes of each condition go to .cache/hint_study, as Parquet.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common import CAPABILITY, base_model, faults_in_one_line
from hint_study.choice import choices
from hint_study.conditions import BASE, Banks, Condition, conditions, for_train
from hint_study.page import figure, page
from hint_study.playing import Panel, Plays, open_panel, play, rows

from stages.core import plugins
from stages.core.files import CACHE, atomic
from stages.core.params import Cell, Settings, load
from stages.core.process import Fault, check_root, hush_libraries
from stages.core.records import Episode, write
from stages.metrics import git_commit
from stages.retrieval.scoring import RetrievalFault, check_installed
from stages.runner.study import open_engine

DATA = Path("data")
OUT = Path("studies/hints")
EPISODES = CACHE / "hint_study"


@dataclass
class Parts:
    """What results.json holds: the tasks of a panel at most (None: all), what was left out and why, rows of what was played and of what is
    chosen, the banks."""

    schema_version: int = 1
    limit: int | None = None
    skipped: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    choices: list[dict[str, Any]] = field(default_factory=list)
    banks: list[dict[str, Any]] = field(default_factory=list)

    def skip(self, what: str, why: str) -> None:
        """Leave something out, and say so."""
        self.skipped.append(f"{what}: {why}")
        print(f"note: left out: {self.skipped[-1]}", flush=True)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(prog="python benchmarks/hints.py", description="compares hints on the dev panels")
    parser.add_argument("--train", action="store_true", help="play the train panels too, with three hints")
    parser.add_argument("--limit", type=int, metavar="N", help="tasks of a panel at most, to try this out; needs --out")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER")
    parser.add_argument("--page", action="store_true", help="the page and the figure alone, from results.json")
    args = parser.parse_args()
    if args.limit is not None and args.limit < 1:
        parser.error(f"--limit: expected 1 task or more, found {args.limit}")
    if args.limit and args.out.resolve() == OUT.resolve():
        parser.error(f"--limit tries this out: name another folder with --out, for {OUT} holds the whole study")
    hush_libraries()
    check_root()
    if not args.page:
        base_model()
        results = measure(load(), ["dev", "train"] if args.train else ["dev"], args.limit)
        with atomic(args.out / "results.json") as temporary:
            temporary.write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")
    show(args.out)


def measure(settings: Settings, panels: Sequence[str], limit: int | None) -> Parts:
    """All results: the rows of what was played, of what is chosen, and of the banks. Raises `Fault` where the study's data are missing."""
    wanted, results = conditions(), Parts(limit=limit)
    try:
        check_installed()
    except RetrievalFault as fault:
        results.skip("dense", str(fault))
        wanted = [c for c in wanted if c.way != "dense"]
    for cell in settings.axes.cells:
        add_cell(results, settings, cell, wanted, panels, limit)
    return results


def add_cell(
    results: Parts,
    settings: Settings,
    cell: Cell,
    wanted: Sequence[Condition],
    panels: Sequence[str],
    limit: int | None,
) -> None:
    """Add a cell's rows. A bank without a hint is noted, and not played with."""
    banks = Banks(settings, cell, DATA)
    empty = sorted({c.bank for c in wanted if c != BASE and not banks.of(c).bank})
    for writer, share, draw in empty:
        results.skip(f"{cell}, {writer}, {100 * share:.0f} % of the failures, draw {draw}", "no hint passed the gate")
    played = [c for c in wanted if c.bank not in empty]
    results.banks += banks.facts()
    hidden, graded = settings.warmup.hidden(cell.env), plugins.environment(cell.env).graded
    opened = {name: open_panel(settings, cell, name, limit, DATA) for name in ("train", "dev")}
    chosen = [c for c in for_train(played) if c != BASE and c.share == 1]
    for panel in opened.values():
        results.choices += [{"cell": cell, **row} for row in choices(panel, chosen, banks, hidden)]
    engine = open_engine(settings, cell, None)
    origin = {"git_commit": git_commit(), "machine": CAPABILITY}
    for name in panels:
        plays = play(settings, opened[name], played if name == "dev" else for_train(played), banks, engine)
        keep(opened[name], plays)
        results.rows += [{"cell": cell, **row, **origin} for row in rows(plays, hidden, graded=graded)]


def keep(panel: Panel, plays: Plays) -> None:
    """The episodes of each condition, a file each."""
    for c, episodes in plays.items():
        name = f"{c.writer}_{100 * c.share:.0f}_{c.draw}_{c.way}_{c.scope}_k{c.k}.parquet"
        write(EPISODES / panel.cell / panel.name / name, Episode, episodes)


def show(out: Path) -> None:
    """Write the page and the figure anew."""
    try:
        results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Fault(f"{out / 'results.json'}: not readable ({error}); run this without --page") from error
    old = out / "README.md"
    text = page(results, old.read_text(encoding="utf-8") if old.is_file() else "")
    for path, content in ((old, text), (out / "success.svg", figure(results))):
        with atomic(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
    print(f"{out}: {len(results['rows'])} rows")


if __name__ == "__main__":
    sys.exit(faults_in_one_line(main))
