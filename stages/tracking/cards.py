"""What a registered student says of itself, as Markdown."""

from __future__ import annotations

from typing import Any

from stages.core.arms import ARMS
from stages.reporting.words import fraction
from stages.tracking.runs import result
from stages.tracking.study import Contender

_TAUGHT = {
    "sft": "successes of the base agent, played without hints",
    "distilled": "successes of the hinted agent, with every hint removed",
    "distilled_random": "successes of the agent with random hints, with every hint removed",
    "on_policy": "the base agent's own replies, to choose each token as it would with hints",
    "hinted": "successes of the hinted agent, with its hints",
}


def family(student: Contender) -> str:
    """What all versions of a registered model have in common."""
    return (
        f"LoRA students of {student.cell}, taught {_TAUGHT[student.system]}. They play {_how(student)} hints. `champion` is the version with the "
        "best figure on the dev panel; test figures move no alias."
    )


def model_card(student: Contender, address: str) -> str:
    """What the version at an address is, what it was trained on, its figures with intervals, how to load it."""
    row = student.reported
    source = str(row.get("panel_source", ""))
    benchmark = (
        "Its tasks were generated: these are no benchmark numbers."
        if source.startswith("generated")
        else f"Tasks: {source}."
    )
    graded = row.get("score") is not None
    header = [
        "panel",
        "tasks",
        "success (95 % interval)",
        *(["score"] if graded else []),
        "known skills",
        "withheld skills",
        "tokens an episode",
    ]
    lines = [_line(panel, found, graded) for panel, found in student.rows.items()]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *lines))
    return f"""\
A LoRA adapter for {student.cell}, seed {student.seed}, of the base model `{student.base}`. Taught on {_TAUGHT[student.system]}. It plays {_how(student)} hints.

{table}

{benchmark} Withheld from the base model: {", ".join(row.get("withheld", [])) or "nothing"}.

```python
from stages.models.manifest import model_folder

model = AutoModelForCausalLM.from_pretrained(model_folder())
model = PeftModel.from_pretrained(model, mlflow.artifacts.download_artifacts("{address}"))
```

`python -m stages play --model {address}` plays it. Under its folder's name, {student.name}, it stands in `data/students`.
"""


def _how(student: Contender) -> str:
    return "with" if ARMS[student.system].hinted else "without"


def _line(panel: str, row: dict[str, Any], graded: bool) -> list[str]:
    skills = row.get("skills", {})
    shown = [fraction(skills.get(skill)) for skill in ("known", "withheld")]
    return [
        panel,
        str(row["n"]),
        result(row),
        *([f"{row['score']:.1f}"] if graded else []),
        *shown,
        f"{row['tokens_per_episode']:,.0f}",
    ]
