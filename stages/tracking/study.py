"""What there is to record: the contenders with their figures, and what stands beside all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from stages.core.arms import ARMS
from stages.core.documents import read_document
from stages.core.params import flat
from stages.core.process import Fault
from stages.stats.contrasts import primary_metric
from stages.stats.systems import STUDENTS, label

STUDENT_FOLDERS = "data/students"
EVALS = "data/evals"
CURVE = "curve.jsonl"  # in a student's folder
_SECRET = re.compile(r"(^|[._-])(api_?key|secret|password|passwd|token|credentials?)$", re.IGNORECASE)
_USERINFO = re.compile(r"(://)[^/@\s]+@")
_QUERY = re.compile(r"([?&](?:api_?key|secret|password|token)=)[^&\s]+", re.IGNORECASE)


class InputError(Fault, ValueError):
    """A metric file or a student is missing or unreadable: says which, and what to do."""


@dataclass(frozen=True)
class Contender:
    """One environment, agent, system and seed, with its row of metrics/systems.json for each panel."""

    env: str
    agent: str
    system: str
    seed: int
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its folders: `alfworld_react_distilled_s0`."""
        return f"{self.env}_{self.agent}_{label(self.system, self.seed)}"

    @property
    def cell(self) -> str:
        """Its environment and agent, for people: `alfworld react`."""
        return f"{self.env} {self.agent}"

    @property
    def title(self) -> str:
        """Its name for people: `alfworld react: distilled, seed 0`."""
        return f"{self.cell}: {self.system}" + (f", seed {self.seed}" if self.is_seeded else "")

    @property
    def is_seeded(self) -> bool:
        """Whether a student plays, so that its figures depend on a training seed."""
        return self.system in STUDENTS

    @property
    def is_student(self) -> bool:
        """Whether it has weights of its own; a student that is shown hints, though taught to do without, plays with another contender's."""
        return self.system in ARMS

    @property
    def base(self) -> str:
        """The name of the model that a student adapts: its own name without the digest of its adapter."""
        model = str(self.reported.get("model", ""))
        return model.rpartition("+")[0] if "+" in model.rpartition("@")[2] else model

    @property
    def student_folder(self) -> Path:
        """Where a student's adapter and learning curve lie."""
        return Path(STUDENT_FOLDERS) / self.name

    @property
    def primary(self) -> str:
        """The metric that it is judged by: its score, where rewards are graded."""
        return primary_metric(graded=self.reported.get("score") is not None)

    @property
    def reported(self) -> dict[str, Any]:
        """The row of the panel that is reported: metrics/systems.json has it first."""
        return next(iter(self.rows.values()))


def read_contenders(path: Path) -> list[Contender]:
    """The contenders of metrics/systems.json, in its order: the reported panel's rows come first. Raises `InputError` or `RecordError`."""
    found: dict[tuple[Any, ...], Contender] = {}
    for row in chain.from_iterable(read_document(path, "rows", "other_panels")):
        try:
            identity = (str(row["env"]), str(row["agent"]), str(row["system"]), int(row["seed"]))
            rows, panel = found.setdefault(identity, Contender(*identity)).rows, row["panel"]
            if panel in rows:
                raise InputError(f"{path}: {identity} stands twice on panel {panel!r}; run `dvc repro`")
            rows[panel] = {**row, "panel_sha256": str(row["panel_sha256"])}
        except (KeyError, TypeError) as error:
            raise InputError(f"{path}: a row without {error}; run `dvc repro`") from error
    if not found:
        raise InputError(f"{path}: no system was evaluated; run `dvc repro`")
    return list(found.values())


def check_adapter(folder: Path) -> Path:
    """The folder peft reloads a student from. Raises `InputError` when it is incomplete."""
    adapter = folder / "adapter"
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (adapter / name).is_file():
            raise InputError(f"{adapter / name}: no such file; run `dvc checkout` or `dvc repro`")
    return adapter


def flatten(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings under dotted names, as text. Keys that name a secret are left out, credentials within URLs masked."""
    return {
        name: masked(value if isinstance(value, str) else json.dumps(value, default=str))
        for name, value in flat(settings).items()
        if value != {} and not _SECRET.search(name)
    }


def masked(text: str) -> str:
    """A text without the credentials that URLs in it carry."""
    return _QUERY.sub(r"\1***", _USERINFO.sub(r"\1***@", text))
