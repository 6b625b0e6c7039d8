"""What a finished pipeline leaves behind for the MLflow view, with small made-up contents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from fake_study import run

from stages.core.records import Episode, write
from stages.tracking.lockfile import file_md5

STUDENT = "alfworld_react_distilled_s0"
ADAPTER = {"adapter_config.json": b'{"peft_type": "LORA"}', "adapter_model.safetensors": bytes(range(256)) * 9}


def write_student(root: Path, adapter: dict[str, bytes], name: str = STUDENT) -> None:
    """The student's adapter folder and a learning curve of three steps."""
    folder = root / "data" / "students" / name
    (folder / "adapter").mkdir(parents=True, exist_ok=True)
    for name, content in adapter.items():
        (folder / "adapter" / name).write_bytes(content)
    rows = [{"step": s, "loss": 2.0 / s, "tokens": 100 * s, "learning_rate": 1e-4} for s in (1, 2, 3)]
    (folder / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_episodes(root: Path, system: str, folder: str) -> None:
    """Twelve episodes on the test panel: those of `heat` are failed by the base agent."""
    episodes = run(system, lambda task, category: system != "base" or category == "put")
    write(root / "data" / "evals" / folder / "test.parquet", Episode, episodes)


def write_results(root: Path, dev: float = 0.5, panel: str = "d" * 64, student_md5: str = "s1.dir") -> None:
    """Metrics with the student's `dev` success on a dev panel, and the dvc.lock that belongs to them."""
    (root / "metrics").mkdir(exist_ok=True)
    place = {"env": "alfworld", "agent": "react"}
    contrast = {**place, "panel": "test", "a": "distilled", "b": "base", "metric": "success"}
    gates = {"sft": {"hint_text": {"checked": 9, "failed": 0}}}
    content: dict[str, Any] = {
        "systems": {
            "rows": [row("base", "test", 0.25, "t" * 64), row("distilled", "test", 0.75, "t" * 64)],
            "other_panels": [row("base", "dev", 0.2, panel), row("distilled", "dev", dev, panel)],
        },
        "contrasts": {
            "rows": [{**contrast, "primary": False, "difference": 0.5, "low": None, "p_value": 0.01}],
            "other_panels": [],
            "by_skill": [],
        },
        "funnel": {"rows": [{**place, "failures": 40, "lessons": {"sft": 9}, "gates": gates}]},
    }
    for name, body in content.items():
        (root / "metrics" / f"{name}.json").write_text(json.dumps({"schema_version": 1, **body}))
    for system, folder in (("base", "alfworld_react_base"), ("distilled", STUDENT)):
        write_episodes(root, system, folder)
    evals = [{"path": f"data/evals/alfworld_react_{name}", "md5": f"{name}.dir"} for name in ("base", "distilled_s0")]
    metrics = [{"path": f"metrics/{n}.json", "md5": file_md5(root / "metrics" / f"{n}.json")} for n in content]
    stages = {
        "students@alfworld_react-distilled-0": [{"path": f"data/students/{STUDENT}", "md5": student_md5}],
        "evaluate": evals,
        "metrics": metrics,
        "report": [{"path": "report", "md5": "r.dir"}],
    }
    entries: dict[str, Any] = {name: {"cmd": f"python {name}", "outs": outs} for name, outs in stages.items()}
    entries["evaluate"] |= {
        "deps": [{"path": "data/hints/alfworld_react"}],
        "params": {"params.yaml": {"engine": {"slots": 8}}},
    }
    entries["hints"] = {
        "cmd": "python hints",
        "outs": [{"path": "data/hints/alfworld_react"}],
        "params": {"params.yaml": {"hints.k": 3}},
    }
    lock = {"schema": "2.0", "stages": entries}
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))


def row(system: str, panel: str, success: float, panel_sha256: str) -> dict[str, Any]:
    """A row of metrics/systems.json; its engine's address holds a password."""
    return {
        **{"env": "alfworld", "agent": "react", "system": system, "seed": 0, "panel": panel, "n": 20},
        **{
            "panel_sha256": panel_sha256,
            "success": success,
            "success_low": success / 2,
            "success_high": 1.0,
            "score": None,
        },
        **{"tokens_per_episode": 900.0, "tokens": {"act": 900.0}, "steps": 2.0, "cost": {"tokens_per_success": None}},
        "skills": {"known": {"n": 16, "success": success}, "withheld": {"n": 4, "success": success}},
        **{"by_category": {"heat": {"n": 4, "success": success}}},
        **{
            "model": "tiny",
            "engine": "https://me:hunter2@host/v1",
            "git_commit": "c0ffee",
            "withheld": ["heat"],
            "panel_source": "generated",
        },
    }
