"""The tables of README and docs/results.md that the committed metrics are the source of.

python tests/doc_tables.py    write them anew
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from structure import ROOT

from stages.reporting.paper import paper
from stages.reporting.words import DASH, MINUS

ORDER = ("base", "rag", "random", "sft", "distilled")
NAMES = {
    "base": "base agent",
    "rag": "with hints (rag)",
    "random": "random hints",
    "sft": "own successes (sft)",
    "distilled": "**distilled**, no hints",
}


def rows(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "metrics" / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return found


def systems(env: str) -> dict[str, dict[str, Any]]:
    return {row["system"]: row for row in rows("systems") if row["env"] == env}


def success(row: dict[str, Any]) -> str:
    return f"{100 * row['success']:.1f} % ({100 * row['success_low']:.0f}{DASH}{100 * row['success_high']:.0f})"


def skill(row: dict[str, Any], name: str) -> str:
    share = row["skills"][name]
    return f"{round(share['success'] * share['n'])}/{share['n']}"


def effect() -> list[str]:
    """README's table: four systems, and the paper's below."""
    found = [systems("alfworld")[name] for name in ("base", "rag", "sft", "distilled")]
    lines = {
        f"success (95 % interval), {found[0]['n']} generated games": [success(row) for row in found],
        "known skills": [skill(row, "known") for row in found],
        "withheld skills": [skill(row, "withheld") for row in found],
        "tokens an episode": [f"{row['tokens_per_episode']:,.0f}" for row in found],
    }
    head = [
        "| ALFWorld, ReAct | base | with hints (rag) | own successes (sft) | distilled, no hints |",
        "|---|---|---|---|---|",
    ]
    [primary] = [row for row in rows("contrasts") if row["env"] == "alfworld" and row["primary"]]
    lines["distilled against own successes (primary contrast), points (95 % interval), p"] = [
        "",
        "",
        "",
        difference(primary),
    ]
    cell = ("alfworld", "react", "Qwen2.5-14B-Instruct")
    theirs = [row for row in paper()["rows"] if (row["env"], row["agent"], row["model"]) == cell]
    lines |= {
        f"*the paper's model on other games ({cell[2]}, 134 official games)*: success": [
            f"{100 * row['success']:.1f} %" for row in theirs
        ],
        "*the paper*: tokens an episode": [f"{row['tokens_per_episode'] / 1000:.1f}k" for row in theirs],
    }
    return [*head, *(f"| {name} | {' | '.join(cells)} |" for name, cells in lines.items())]


def results() -> list[str]:
    """The two tables of systems in docs/results.md."""
    home, shop = systems("alfworld"), systems("webshop")
    lines = [
        "| ALFWorld (generated), ReAct | success | known skills | withheld skills | steps | unreadable replies | tokens an episode |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for name in ORDER:
        row = home[name]
        cells = [NAMES[name], success(row), skill(row, "known"), skill(row, "withheld"), f"{row['steps']:.1f}"]
        cells += [f"{100 * row['unparsable_rate']:.1f} %", f"{row['tokens_per_episode']:,.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "| WebShop (generated), Act | score | success | plain goals | goals with options | tokens an episode |",
    ]
    lines.append("|---|---|---|---|---|---|")
    for name in ORDER:
        row = shop[name]
        cells = [NAMES[name], f"{row['score']:.1f}", success(row), skill(row, "known"), skill(row, "withheld")]
        lines.append(f"| {' | '.join(cells)} | {row['tokens_per_episode']:,.0f} |")
    return lines


def contrasts() -> list[str]:
    """The table of contrasts in docs/results.md."""
    found = {(row["env"], row["a"], row["b"], row["metric"]): row for row in rows("contrasts")}
    head = "| contrast | ALFWorld, points of success (95 % interval), p | WebShop, points of score (95 % interval), p |"
    lines = [head, "|---|---|---|"]
    for a, b in (("distilled", "sft"), ("rag", "base"), ("distilled", "base"), ("distilled", "rag"), ("rag", "random")):
        cells = [
            difference(found[env, a, b, metric]) for env, metric in (("alfworld", "success"), ("webshop", "score"))
        ]
        primary = " (primary)" if found["alfworld", a, b, "success"]["primary"] else ""
        lines.append(f"| {a} {MINUS} {b}{primary} | {' | '.join(cells)} |")
    return lines


def difference(row: dict[str, Any]) -> str:
    scale = 100 if row["metric"] == "success" else 1
    number, low, high = (f"{scale * row[key]:+.1f}".replace("-", MINUS) for key in ("difference", "low", "high"))
    p = row["p_value"] if row["p_holm"] is None else row["p_holm"]
    after = "" if row["p_holm"] is None else " after Holm"
    return f"{number} ({low} to {high}), {'< 0.001' if p < 0.001 else f'{p:.3f}'}{after}"


TABLES = {
    ("README.md", "effect"): effect,
    ("docs/results.md", "results"): results,
    ("docs/results.md", "contrasts"): contrasts,
}


def between(text: str, mark: str) -> str:
    found = re.search(rf"<!-- {mark} -->\n(.*?)\n<!-- /{mark} -->", text, re.S)
    assert found, mark
    return found[1]


def main() -> None:
    for (page, mark), table in TABLES.items():
        path = Path(ROOT / page)
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(between(text, mark), "\n".join(table())), encoding="utf-8")


if __name__ == "__main__":
    main()
