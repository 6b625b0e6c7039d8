"""Where WebShop's reward is lost, link by link: how many purchases had the right kind of product, all attributes, the price, all options.

    python benchmarks/purchases.py                                    # of all episodes in data/
    python benchmarks/purchases.py --out studies/NAME/purchases.json  # keeps them there, and not in purchases.json beside this file

A row each panel, system and kind of goal, seeds together. On the train panel the systems are the base agent and the teachers, by what they retrieve.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from common import faults_in_one_line, record, show

from stages.core.process import Fault
from stages.core.records import Episode, read
from stages.stats.systems import usable

DATA = Path("data")
Parts = dict[str, float]
# Of a purchase, in the words of its reward (`stages.envs.webshop.records.Score`).
LINKS: dict[str, Callable[[Parts], bool]] = {
    "kind": lambda parts: parts["type_factor"] == 1,
    "attributes": lambda parts: parts["attributes_met"] == parts["attributes_wanted"],
    "price": lambda parts: parts["price_met"] == 1,
    "options": lambda parts: parts["options_met"] == parts["options_wanted"],
}


def played(cell: str) -> list[Episode]:
    """All episodes of a cell that lie in data/. Raises `Fault` where there are none."""
    folders = [DATA / "rollouts" / cell, *(DATA / "teacher" / cell).glob("*"), *(DATA / "evals").glob(f"{cell}_*")]
    found = [
        episode for folder in folders for path in sorted(folder.glob("*.parquet")) for episode in read(path, Episode)
    ]
    if not found:
        raise Fault(f"{DATA}: no episodes of {cell}; run `dvc repro` first, or name another --cell")
    return found


def links(episodes: Iterable[Episode]) -> list[dict[str, Any]]:
    """A row each panel, system and skill: goals, purchases, how many of these held each link, how many goals were solved, the mean score.
    Episodes that the machine broke off are left out.

    Raises `Fault` for a purchase whose record does not say what its reward is made of.
    """
    groups: defaultdict[tuple[str, str, str], list[Episode]] = defaultdict(list)
    for episode in usable(episodes):
        groups[episode.panel, episode.system, episode.skill].append(episode)
    rows = []
    for (panel, system, skill), group in groups.items():
        bought = [parts_of(episode) for episode in group if episode.stop == "done"]
        rows.append(
            {"panel": panel, "system": system, "skill": skill, "goals": len(group), "bought": len(bought)}
            | {name: sum(map(held, bought)) for name, held in LINKS.items()}
            | {"solved": sum(e.success for e in group), "score": 100 * sum(e.reward for e in group) / len(group)}
        )
    return rows


def parts_of(episode: Episode) -> Parts:
    parts = {part.name: part.value for part in episode.parts}
    if missing := {"type_factor", "attributes_met", "price_met", "options_met"} - set(parts):
        raise Fault(
            f"{episode.episode_id}: a purchase without {', '.join(sorted(missing))}; --cell wants a cell of WebShop"
        )
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description="Count what purchases had of what their goals wanted.")
    parser.add_argument("--cell", default="webshop_act", help="default: webshop_act")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    rows = links(played(args.cell))
    named = [{"": f"{row.pop('panel')} {row.pop('system')} {row.pop('skill')}", **row} for row in map(dict, rows)]
    show(f"{args.cell}: purchases that had what the goal wanted", named)
    record({args.cell: {"rows": rows}}, {}, args.out)


if __name__ == "__main__":
    sys.exit(faults_in_one_line(main))
