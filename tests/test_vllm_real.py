"""vLLM itself (its build for CPUs) plays a dozen games as the embedded engine does: in process and over HTTP, the base model and a student,
through the stages' own commands.

Its environment is that of benchmarks/vllm_cpu.py, kept between runs. `pytest -m registry tests/test_vllm_real.py` runs these tests alone.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import vllm_cpu
from candidates.servers import MODEL, Room, Running, vllm_serve
from project import copy_project, enter, run
from ruamel.yaml import YAML
from tiny import save_adapter, save_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from stages.core.records import Episode, read
from stages.models.identity import base_name

pytestmark = pytest.mark.registry

CELL, STUDENT = "alfworld_react", "alfworld_react_distilled_s0"
ROLLOUTS = ("stages.rollouts", "--cell", CELL)
EVALUATE = ("stages.evaluate", "--cell", CELL, "--system", "distilled", "--seed", "0")
COMMANDS = (ROLLOUTS, EVALUATE)
ADAPTER = Path("data/students") / STUDENT / "adapter"
FEW = """
axes: {cell: [alfworld_react]}
limit: {train: 12, dev: 3, test: 3}
model: {source: model}
warmup: {enabled: false}
engine: {dtype: float32, slots: 8, max_new_tokens: 40, context: 3000}
runner: {max_turns: {alfworld: 8}}
"""
# Of the episodes: sums in another order let two nearly equal logits swap, after which an episode goes its own way.
EQUAL = 2 / 3
ON_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}


@pytest.fixture(scope="module")
def vllm_python() -> Path:
    """The interpreter of an environment with vLLM; made where it is missing."""
    try:
        return vllm_cpu.environment() / "bin" / "python"
    except vllm_cpu.NoEnvironment as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Games, a tiny model and its student, both drawn at random, and what the embedded engine plays. All engines compute in fp32."""
    folder = tmp_path_factory.mktemp("vllm")
    with pytest.MonkeyPatch.context() as patch:
        copy_project(folder, patch)
        Path("profiles/few.yaml").write_text(FEW)
        run("python", "-m", "stages", "profile", "few")
        run("python", "-m", "stages.panels", "--env", "alfworld")
        # Heads of 32 numbers: vLLM has no narrower ones.
        save_model(Path("model"), Qwen2Config, Qwen2ForCausalLM, hidden_size=128, max_position_embeddings=8192)
        for stage in ("source", "warmup", "base"):
            run("python", "-m", f"stages.{stage}")
        save_adapter(Path("model"), ADAPTER)
        (ADAPTER.parent / "student.json").write_text(json.dumps({"base": base_name(Path("data/base/model"))}))
        for command in COMMANDS:
            play(sys.executable, *command)
        for folder_of in ("rollouts", "evals"):
            shutil.copytree(f"data/{folder_of}", f"embedded/{folder_of}")
        yield folder


@pytest.fixture
def study(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(world, monkeypatch)
    for name, value in ON_CPU.items():
        monkeypatch.setenv(name, value)
    return world


def choose(**engine: Any) -> None:
    yaml, path = YAML(), Path("params.yaml")
    settings = yaml.load(path)
    settings["engine"].update(engine)
    yaml.dump(settings, path)


def play(python: Path | str, *command: str) -> dict[str, Episode]:
    """The episodes that a stage plays, by task."""
    done = subprocess.run([str(python), "-m", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return played(Path("data"), command)


def played(root: Path, command: tuple[str, ...]) -> dict[str, Episode]:
    folder = root / (f"rollouts/{CELL}" if command == ROLLOUTS else f"evals/{STUDENT}")
    return {e.task_id: e for path in sorted(folder.glob("*.parquet")) for e in read(path, Episode)}


def assert_alike(own: Mapping[str, Episode], command: tuple[str, ...]) -> None:
    """Hold what an engine played against what the embedded engine did."""
    embedded = played(Path("embedded"), command)
    assert own.keys() == embedded.keys() and not any(e.machine_failure for e in own.values())
    assert {e.engine for e in own.values()}.isdisjoint(e.engine for e in embedded.values())
    equal = [task for task, e in own.items() if replies(e) == replies(embedded[task])]
    assert len(equal) >= EQUAL * len(own), f"{len(equal)} of {len(own)} episodes"
    for task in equal:
        assert own[task].prompt_tokens == embedded[task].prompt_tokens


def replies(episode: Episode) -> list[str]:
    return [turn.reply for turn in episode.turns]


def test_the_student_says_something_else(study: Path) -> None:
    """Else nothing below would show that its adapter is applied."""
    base, student = ({replies(e)[0] for e in played(Path("embedded"), c).values()} for c in COMMANDS)
    assert not base & student and len(base) > 1


def test_it_plays_in_process_as_the_embedded_engine_and_leaves_nothing_behind(study: Path, vllm_python: Path) -> None:
    choose(kind="vllm")
    kept = killed_at_work(vllm_python)
    assert_alike(play(vllm_python, *ROLLOUTS), ROLLOUTS)
    facts = json.loads(Path(f"data/timing/rollouts_{CELL}.json").read_text())
    assert facts["resumed"] >= kept, "what had ended before the kill is not played again"
    assert_alike(play(vllm_python, *EVALUATE), EVALUATE)
    assert workers() == []


def killed_at_work(python: Path) -> int:
    """Start the rollouts, kill them once some episodes have ended, and see that their workers go; returns how many have ended."""

    def ended() -> int:
        return sum(len(path.read_bytes().splitlines()) for path in Path(".cache/journal").glob("*.jsonl"))

    before = ended()
    with subprocess.Popen([str(python), "-m", *ROLLOUTS], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as stage:
        wait_until(lambda: ended() > before or stage.poll() is not None, 300)
        assert stage.poll() is None, stage.stderr.read()[-3000:] if stage.stderr else ""
        assert workers()
        stage.send_signal(signal.SIGKILL)
        done = ended() - before
    wait_until(lambda: not workers(), 20)
    return done


def workers() -> list[str]:
    """vLLM's processes that run in this folder."""
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        try:
            if "VLLM::" in " ".join(process.info["cmdline"] or []) and Path(process.cwd()) == Path.cwd():
                found.append(str(process.info["cmdline"]))
        except psutil.Error:
            continue
    return found


def wait_until(true: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.2)


def test_its_server_plays_as_the_embedded_engine(study: Path, vllm_python: Path) -> None:
    with serving() as running:
        server = {
            "url": running.url,
            "model": MODEL,
            "student": "{name}",
            "key_variable": "NO_SUCH_KEY",
            "timeout": 120,
            "retries": 1,
        }
        choose(kind="server", server=server)
        for command in COMMANDS:
            assert_alike(play(sys.executable, *command), command)


def serving(window: int = 3000) -> AbstractContextManager[Running]:
    """vLLM's server with base and student."""
    student = ("--enable-lora", "--lora-modules", f"{STUDENT}={ADAPTER}")
    return vllm_serve(Path("model"), Path(), Room(8, window, 2, torch.float32), *student)


HINTS = """
import json, sys
from pathlib import Path
import stages.hints as stage
from stages.core.params import load
from stages.core.records import Answer, read
stage.run("alfworld_react")
found = read(Path("data/hints/alfworld_react/answers.parquet"), Answer)
print(json.dumps([[a.calls, a.outcome, json.loads(a.reply)["hints"]] for a in found]))
"""


@pytest.mark.parametrize("writer", ["llm", "self"])
def test_hints_are_held_to_a_schema(study: Path, vllm_python: Path, writer: str) -> None:
    """By its server, and in process; left alone this model writes no JSON."""
    shutil.copytree("embedded/rollouts", "data/rollouts", dirs_exist_ok=True)
    limits = {"max_tokens": 400, "context": 6000, "slots": 8, "key_variable": "NO_SUCH_KEY"}
    if writer == "self":
        choose(kind="vllm", context=6000)
        written = hints(vllm_python, writer, limits)
    else:
        with serving(6000) as running:
            written = hints(Path(sys.executable), writer, {**limits, "url": running.url, "model": MODEL})
    assert len(written) >= 10 and {calls for calls, _, _ in written} == {1}
    for _, outcome, texts in written:
        assert outcome in ("hints", "none") and len(texts) <= 1 and all(len(text) <= 80 for text in texts)


def hints(python: Path, writer: str, llm: dict[str, Any]) -> list[Any]:
    """What the stage records of each failure: how often it asked, what came of it, the texts."""
    yaml, path = YAML(), Path("params.yaml")
    settings = yaml.load(path)
    settings["hints"].update(writer=writer, evidence=[], max_chars=40, per_failure={"alfworld": 1})
    settings["hints"]["llm"].update(llm)
    yaml.dump(settings, path)
    done = subprocess.run([str(python), "-c", HINTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    [found] = [line for line in done.stdout.splitlines() if line.startswith("[[")]  # vLLM says more
    return list(json.loads(found))
