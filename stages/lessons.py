"""The `lessons` stage: successes on the train panel -> training examples without hints.

    python -m stages.lessons --cell alfworld_react --arm distilled

Arm `distilled` reads data/teacher/<cell>/episodes.parquet, arm `sft` data/rollouts/<cell>/episodes.parquet. Writes lessons.parquet and
gates.json to data/lessons/<cell>_<arm>/, all or nothing: when a gate finds a fault or no lesson is left, earlier outputs stay
as they were.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages import agents
from stages.core import plugins
from stages.core.files import replacing
from stages.core.params import Settings, load
from stages.core.process import Fault, run_stage
from stages.core.records import SCHEMA_VERSION, Episode, Lesson, Message, read, write
from stages.curation.gates import Evidence, check, no_measured_goal, sharing
from stages.curation.lessons import Limits, build_lessons
from stages.envs.panel import load_panel, panel_names
from stages.models.chat import Chat, open_chat
from stages.models.conversation import Encoded, examples
from stages.models.manifest import BASE

DATA = Path("data")
SOURCES = {"distilled": "teacher", "sft": "rollouts"}
PANEL = "train"


class LessonError(Fault, ValueError):
    """There is nothing to learn from, or it is not what it should be."""


def main() -> int:
    """Run the stage; 1 and the fault on stderr when its inputs are unusable."""
    return run_stage(
        "lessons", "makes training examples of successes", lambda cell, arm: run(cell, arm, load()), "cell", "arm"
    )


def run(name: str, arm: str, settings: Settings, chat: Chat | None = None, data: Path = DATA) -> str:
    """Make, check and write one arm's lessons; returns what was done, in a line. `chat` is the base model's if not given.

    Raises `LessonError` when no lesson is left or an episode is of another panel, `GateError` when a gate finds a
    fault.
    """
    if arm not in SOURCES:
        raise LessonError(f"there is no arm {arm!r}, only {', '.join(sorted(SOURCES))}")
    cell = settings.cell(name)
    chat = chat or open_chat(BASE)
    source, panels = data / SOURCES[arm] / cell / "episodes.parquet", data / "panels" / cell.env
    episodes = read(source, Episode)
    tasks, sha256 = load_panel(panels, PANEL)
    strangers = [e.episode_id for e in episodes if (e.panel, e.panel_sha256) != (PANEL, sha256)]
    if strangers:
        raise LessonError(
            f"{source}: {len(strangers)} episodes, {strangers[0]} the first, were not played on the {PANEL} panel "
            f"as it stands ({sha256[:12]}); run `dvc repro {SOURCES[arm]}`"
        )

    def encode(messages: Sequence[Message]) -> list[Encoded]:
        return examples(chat, messages)

    measured = [task for name in panel_names(panels) if name != PANEL for task in load_panel(panels, name)[0]]
    asks, keep = plugins.environment(cell.env).asks, settings.lessons.shared_goals == "keep"
    limits = Limits(
        settings.lessons.max_refused[cell.env],
        settings.lessons.ngram,
        settings.students[cell.env].max_tokens,
        barred=frozenset() if keep else sharing(tasks, measured, asks),
    )
    lessons, dropped = build_lessons(arm, episodes, agents.get(cell.agent, cell.env), encode, limits)
    if not lessons:
        raise LessonError(
            f"{source}: none of {len(episodes)} episodes gives a lesson ({_counts(dropped)}), so arm {arm!r} has "
            "nothing to learn. Give the train panel more or easier tasks (panels), or the base model a longer warm-up"
        )
    evidence = Evidence(
        episodes={e.episode_id: e for e in episodes},
        tasks={task.task_id: task for task in tasks},
        measured=measured,
        asks=asks,
        encode=encode,
        decode=chat.decode,
        ngram=limits.ngram,
        max_tokens=limits.max_tokens,
        waived=frozenset({no_measured_goal.__name__} if keep else ()),
    )
    gates = check(lessons, evidence)
    write_all(data / "lessons" / f"{cell}_{arm}", lessons, gates, dropped)
    return f"{cell}, {arm}: {len(lessons)} kept of {len(episodes)} episodes; dropped: {_counts(dropped)}"


def write_all(
    folder: Path, lessons: Sequence[Lesson], gates: Mapping[str, Mapping[str, int]], dropped: Mapping[str, int]
) -> None:
    """Write the lessons and what was checked; `folder` is replaced as a whole."""
    report = {"schema_version": SCHEMA_VERSION, "gates": gates, "dropped": dropped, "kept": len(lessons)}
    with replacing(folder) as fresh:
        write(fresh / "lessons.parquet", Lesson, lessons)
        (fresh / "gates.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _counts(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in dropped.items()) or "none"


if __name__ == "__main__":
    sys.exit(main())
