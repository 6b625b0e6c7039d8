"""The `lessons` stage: episodes on the train panel -> training examples of an arm, without hints unless the arm keeps them.

    python -m stages.lessons --cell alfworld_react --arm distilled

What an arm learns from is said in `stages.core.arms`: data/rollouts/<cell>/, or data/teacher/<cell>/<retrieval>/. Writes lessons.parquet and
gates.json to data/lessons/<cell>_<arm>/, all or nothing: when a gate finds a fault or no lesson is left, earlier outputs stay
as they were.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.arms import ARMS
from stages.core.files import replacing
from stages.core.params import Settings, load
from stages.core.process import run_stage
from stages.core.records import SCHEMA_VERSION, Lesson, write
from stages.curation.budgets import matched
from stages.curation.gates import GATES, check, gates_of
from stages.curation.making import LessonError, Made, Maker, counts
from stages.models.chat import Chat, open_chat
from stages.models.manifest import BASE

DATA = Path("data")


def main() -> int:
    """Run the stage; 1 and the fault on stderr when its inputs are unusable."""
    return run_stage(
        "lessons", "makes training examples of episodes", lambda cell, arm: run(cell, arm, load()), "cell", "arm"
    )


def run(name: str, arm: str, settings: Settings, chat: Chat | None = None, data: Path = DATA) -> str:
    """Make, check and write one arm's lessons; returns what was done, in a line. `chat` is the base model's if not given.

    Raises `LessonError` when no lesson is left or an episode is of another panel, `BudgetError` when arms can't be matched, `GateError` when a gate
    finds a fault.
    """
    if arm not in ARMS:
        raise LessonError(f"there is no arm {arm!r}, only {', '.join(ARMS)}")
    cell = settings.cell(name)
    maker = Maker(cell, settings, chat or open_chat(BASE), data)
    made = maker.made(arm)
    lessons, budget = within_budget(maker, arm, made)
    dropped = dict(made.dropped) | ({"matched": cut} if (cut := len(made.lessons) - len(lessons)) else {})
    mixed_in = {episode.episode_id for episode in made.known}
    gates = gates_of(ARMS[arm])
    report = {
        "schema_version": SCHEMA_VERSION,
        "gates": check(lessons, maker.evidence(made), gates),
        "not_applied": [gate.__name__ for gate in GATES if gate not in gates],
        "dropped": dropped,
        "kept": len(lessons),
        "known": sum(lesson.episode_id in mixed_in for lesson in lessons),
        "matched": budget,
        "without": maker.without(lessons),
    }
    write_all(data / "lessons" / f"{cell}_{arm}", lessons, report)
    return f"{cell}, {arm}: {said(report, len(made.episodes))}"


def within_budget(maker: Maker, arm: str, made: Made) -> tuple[Sequence[Lesson], dict[str, Any] | None]:
    """An arm's lessons, cut to the budget of all arms where the settings match these; and by what, and to how much."""
    how = maker.settings.lessons
    if how.match is None:
        return made.lessons, None
    arms = {other: maker.made(other).lessons for other in maker.settings.axes.arm if other != arm}
    kept, budget = matched({**arms, arm: made.lessons}, how.match, how.seed)
    return kept[arm], {"by": how.match, "budget": budget, "arms": {name: len(found) for name, found in kept.items()}}


def write_all(folder: Path, lessons: Sequence[Lesson], report: dict[str, Any]) -> None:
    """Write the lessons and what was checked; `folder` is replaced as a whole."""
    with replacing(folder) as fresh:
        write(fresh / "lessons.parquet", Lesson, lessons)
        (fresh / "gates.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def said(report: dict[str, Any], episodes: int) -> str:
    """What was done, in a line."""
    parts = [f"{report['kept'] - report['known']} kept of {episodes} episodes", f"dropped: {counts(report['dropped'])}"]
    if report["known"]:
        parts.append(f"{report['known']} of known skills mixed in")
    if report["matched"]:
        parts.append(f"matched by {report['matched']['by']} to {report['matched']['budget']}")
    if report["without"]:
        parts.append(f"no lesson of {', '.join(report['without'])}")
    return "; ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
