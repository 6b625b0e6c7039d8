"""The `students` stage: lessons -> data/students/<cell>_<arm>_s<seed>/, a LoRA adapter on the base model.

    python -m stages.students --cell alfworld_react --arm distilled --seed 0

Writes adapter/ (which `peft` loads on data/base/model), curve.jsonl (a row each logged step) and student.json. With `launch` in params.yaml
several processes train together; they are this module again, with the folder they write to.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.files import replacing
from stages.core.params import load
from stages.core.process import Fault, check_root, die_with_parent, hush_libraries
from stages.core.records import Lesson, read
from stages.core.sections import Students
from stages.models.chat import Chat, open_chat
from stages.models.conversation import examples
from stages.models.identity import base_name
from stages.models.manifest import BASE, model_folder
from stages.training.launch import is_first, launch, wanted, work
from stages.training.pairs import paired, pairs
from stages.training.trainer import Curve, distil, train

DATA = Path("data")


def main() -> int:
    """Run the stage; 1 and one line on stderr when its inputs are unusable."""
    parser = argparse.ArgumentParser(prog="python -m stages.students", description="Train one student on lessons.")
    parser.add_argument("--cell", required=True)
    parser.add_argument("--arm", required=True)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    name = f"{args.cell}_{args.arm}"
    hush_libraries()
    try:
        if args.worker:
            work(lambda: teach(name, recipe_of(args.cell), args.seed, args.worker))
            return 0
        die_with_parent()
        check_root()
        print(f"students {args.cell} {args.arm} {args.seed}: trains a student on lessons", flush=True)
        with replacing(DATA / "students" / f"{name}_s{args.seed}") as fresh:
            how = load().launch
            if wanted(how):
                launch("stages.students", [*sys.argv[1:], "--worker", str(fresh)], how)
            else:
                teach(name, recipe_of(args.cell), args.seed, fresh)
            print(f"students: {name}_s{args.seed}: {summary(fresh)}")
    except Fault as error:
        if not args.worker:  # whose launching process says it
            print(f"students: {error}", file=sys.stderr)
        return 1
    return 0


def recipe_of(cell: str) -> Students:
    """How a cell's students are trained. Raises `SettingsError` for a cell that is not studied."""
    settings = load()
    return settings.students[settings.cell(cell).env]


def teach(name: str, recipe: Students, seed: int, out: Path) -> None:
    """Train on the lessons of a cell and arm (their gates have refused whatever must not be learnt) and write the student to `out`.

    Lessons that have a conversation with hints are distilled, others are learnt by likelihood. Raises `PairError`, `TrainingError`.
    """
    base = base_name(BASE)
    lessons = read(DATA / "lessons" / name / "lessons.parquet", Lesson)
    learn = distilled if paired(lessons) else imitated
    curve, facts = learn(lessons, open_chat(BASE), recipe, seed, out / "adapter")
    if not is_first():
        return
    (out / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in curve), encoding="utf-8")
    said = {"schema_version": 1, "base": base, **facts}
    (out / "student.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def imitated(
    lessons: Sequence[Lesson], chat: Chat, recipe: Students, seed: int, out: Path
) -> tuple[Curve, dict[str, Any]]:
    """Learn the likelihood of all replies; returns the curve and what there is to say of it."""
    taught = [example for lesson in lessons for example in examples(chat, lesson.messages)]
    curve = train(model_folder(), taught, recipe, seed, out)
    return curve, {"loss": "likelihood", **_counted(lessons), "epochs": recipe.epochs}


def distilled(
    lessons: Sequence[Lesson], chat: Chat, recipe: Students, seed: int, out: Path
) -> tuple[Curve, dict[str, Any]]:
    """Learn what the base with hints would have replied; as `imitated`."""
    taught = [pair for lesson in lessons for pair in pairs(chat, lesson)]
    how, by = recipe.distilling(), recipe.on_policy
    curve, (before, after) = distil(model_folder(), taught, how, seed, out, by.divergence, by.kl_clip)
    return curve, {
        "loss": f"{by.divergence}_kl",
        **_counted(lessons),
        "epochs": how.epochs,
        "kl": {"before": before, "after": after},
    }


def _counted(lessons: Sequence[Lesson]) -> dict[str, int]:
    return {
        "lessons": len(lessons),
        "tokens": sum(lesson.tokens for lesson in lessons),
        "trained_tokens": sum(lesson.trained_tokens for lesson in lessons),
    }


def summary(out: Path) -> str:
    """A finished student in a few words."""
    lessons = json.loads((out / "student.json").read_text(encoding="utf-8"))["lessons"]
    last = json.loads((out / "curve.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return f"{lessons} lessons, last loss {last['loss']:.3f}"


if __name__ == "__main__":
    sys.exit(main())
