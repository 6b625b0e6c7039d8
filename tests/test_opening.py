"""Which engine is opened, and what is imported for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fake_server import serving
from structure import ROOT

from stages.core.params import load
from stages.engines.opening import open_engine

pytest_plugins = ["tiny"]

ADAPTER = Path("data/students/alfworld_react_sft_s0/adapter")


def test_a_server_run_needs_no_torch() -> None:
    code = """
import sys
from pathlib import Path
from stages.engines.opening import open_engine
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


def test_the_engine_is_the_one_that_params_name(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, dict[str, Any]]] = []
    for kind in ("cpu", "vllm"):
        monkeypatch.setattr(
            f"stages.engines.{kind}.{kind.title()}Engine", lambda *a, k=kind, **kw: made.append((k, a, kw))
        )
    engine = load(ROOT / "params.yaml").engine
    form = {"type": "object"}
    for kind in ("cpu", "vllm"):
        open_engine(engine.model_copy(update={"kind": kind, "dtype": "float32"}), Path("base"), ADAPTER, ("x",), form)
    common = {
        "dtype": "float32",
        "slots": engine.slots,
        "context": engine.context,
        "max_new_tokens": engine.max_new_tokens,
        "temperature": engine.temperature,
        "stop": ("x",),
    }
    assert made == [
        ("cpu", (Path("base"), ADAPTER), common),
        ("vllm", (Path("base"), ADAPTER), {**common, "schema": form, **engine.vllm.model_dump()}),
    ]


def test_without_an_adapter_peft_is_not_imported(tiny_llama: Path) -> None:
    code = """
import sys
from pathlib import Path
from stages.engines.opening import open_engine
from stages.core.params import load
open_engine(load().engine.model_copy(update={"slots": 1}), Path(sys.argv[1]), None, ())
print("peft" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(tiny_llama)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split() == ["False"]
