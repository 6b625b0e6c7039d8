"""What the profile paper_small takes for the official data and for a model from a hub, made of the default study's.

    python benchmarks/stand_ins.py

Writes stand_ins/: alfworld/ holds generated games in the layout and the grammar of ALFWorld's second release, webshop/ a generated
catalogue as WebShop's three files, model/ the embedded model after its warm-up, which `dvc repro base` or the default study leaves.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from official_games import goals, write_official

from stages.core.files import replacing
from stages.envs.alfworld import TASK_TYPE
from stages.panelling.alfworld.generator import Goal
from stages.panelling.webshop.generator import generate

OUT = Path("stand_ins")
MODEL = Path("data/base/model")
SEED = 5
# Goals of a category in each split; each is a game, and train's have two trials.
GAMES: Mapping[str, int] = {"train": 8, "valid_seen": 1, "valid_unseen": 3}
TRIALS = {"train": 2}


def main() -> None:
    if not (MODEL / "model.safetensors").is_file():
        sys.exit(f"{MODEL}: no model here to stand in; run `dvc repro base`")
    with replacing(OUT) as fresh:
        write_official(fresh / "alfworld", alfworld())
        generate(fresh / "webshop", products=1000, seed=SEED)
        shutil.copytree(MODEL, fresh / "model", ignore=shutil.ignore_patterns("identity.json"))
    found = Counter(path.relative_to(OUT).parts[1] for path in OUT.glob("alfworld/*/*/*/game.tw-pddl"))
    print(f"{OUT}: {dict(found)} games, 1000 products, the model of {MODEL}")


def alfworld() -> dict[str, dict[Goal, int]]:
    """Goals by split: those of the train and valid_seen splits lie in the same scenes, and share none."""
    splits: dict[str, dict[Goal, int]] = {split: {} for split in GAMES}
    for category in TASK_TYPE:
        seen = goals(category, GAMES["train"] + GAMES["valid_seen"])
        unseen = goals(category, GAMES["valid_unseen"], unseen=True)
        for split, chosen in (
            ("train", seen[: GAMES["train"]]),
            ("valid_seen", seen[GAMES["train"] :]),
            ("valid_unseen", unseen),
        ):
            splits[split] |= dict.fromkeys(chosen, TRIALS.get(split, 1))
    return splits


if __name__ == "__main__":
    main()
