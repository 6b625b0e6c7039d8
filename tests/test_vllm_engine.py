"""The vLLM engine's faults and settings, against a stand-in of vLLM's interface; tests/test_vllm_real.py plays on vLLM itself."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_vllm import LLM, EngineDeadError, LoRARequest, modules
from ladder import CODE, IDENTITY, World, play, task
from talks import converse
from tiny import save_adapter

from stages.core.records import Message
from stages.engines import cpu
from stages.engines.base import EngineFault
from stages.engines.vllm import VllmEngine
from stages.runner.journal import Journal

pytest_plugins = ["tiny"]

SETTINGS: dict[str, Any] = {
    "dtype": "auto",
    "slots": 3,
    "context": 512,
    "max_new_tokens": 16,
    "temperature": 0.0,
    "stop": ("th",),
}


@pytest.fixture
def fake_vllm(monkeypatch: pytest.MonkeyPatch) -> type[LLM]:
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return LLM


def make(base: Path, adapter: Path | None = None, **changes: Any) -> VllmEngine:
    return VllmEngine(base, adapter, gpu_memory=0.5, tensor_parallel=1, **{**SETTINGS, **changes})


def test_it_says_what_the_embedded_engine_says(
    tiny_qwen2: Path, fake_vllm: type[LLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "number_format", lambda dtype: torch.float32)
    own, other = converse(make(tiny_qwen2)), converse(cpu.CpuEngine(tiny_qwen2, None, **SETTINGS))
    seen = [[(r.text, r.finish, r.prompt_tokens, r.reply_tokens) for r in talk] for talk in own]
    assert seen == [[(r.text, r.finish, r.prompt_tokens, r.reply_tokens) for r in talk] for talk in other]
    assert {r.finish for talk in own for r in talk} == {"stop", "length"}


def test_what_the_prefix_cache_holds_is_not_counted_as_computed(tiny_qwen2: Path, fake_vllm: type[LLM]) -> None:
    first, second, _ = converse(make(tiny_qwen2))[0]
    assert 0 < second.computed_tokens < second.prompt_tokens
    assert second.prompt_tokens - second.computed_tokens >= (first.prompt_tokens // 16 - 1) * 16


def test_vllm_is_told_what_params_say(tiny_qwen2: Path, fake_vllm: type[LLM], tmp_path: Path) -> None:
    adapter = save_adapter(tiny_qwen2, tmp_path, rank=20)
    engine = make(tiny_qwen2, adapter, temperature=0.7)
    session = engine.open(seed=41)
    engine.submit(session, [Message("user", "Hi.")])
    told = fake_vllm.last.settings
    assert (told["max_model_len"], told["max_num_seqs"], told["gpu_memory_utilization"]) == (512, 3, 0.5)
    assert told["enable_prefix_caching"] and told["enable_lora"] and told["max_lora_rank"] == 32
    [(_, params)] = fake_vllm.last.llm_engine.requests.values()
    assert (params.temperature, params.max_tokens, params.stop, params.seed) == (0.7, 16, ["th"], 41)
    assert fake_vllm.last.llm_engine.loras == [LoRARequest("student", 1, str(adapter))]


def test_a_prompt_without_room_for_a_reply_is_not_sent(tiny_qwen2: Path, fake_vllm: type[LLM]) -> None:
    engine = make(tiny_qwen2, context=64)
    session = engine.open(0)
    engine.submit(session, [Message("user", "x" * 200)])
    [reply] = engine.poll()
    assert (reply.session, reply.finish, reply.text, reply.reply_tokens) == (session, "context", "", 0)
    assert not fake_vllm.last.llm_engine.requests


def test_a_closed_session_is_given_up(tiny_qwen2: Path, fake_vllm: type[LLM]) -> None:
    engine = make(tiny_qwen2, slots=1)
    session = engine.open(0)
    with pytest.raises(RuntimeError, match="all 1 slots are taken"):
        engine.open(1)
    engine.submit(session, [Message("user", "Hi.")])
    engine.close(session)
    assert fake_vllm.last.llm_engine.aborted == ["1"]
    with pytest.raises(RuntimeError, match="nothing was submitted"):
        engine.poll()


def test_vllm_that_is_not_there_is_named_with_its_extra(tiny_qwen2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(EngineFault, match=r"needs a GPU and the extra: pip install '\.\[gpu\]'"):
        make(tiny_qwen2)


def test_what_cannot_be_loaded_is_named(tmp_path: Path, tiny_qwen2: Path, fake_vllm: type[LLM]) -> None:
    with pytest.raises(EngineFault, match=rf"vLLM cannot load {tmp_path}/none .*lower engine\.context"):
        make(tmp_path / "none")
    with pytest.raises(EngineFault, match=r"^.*none/adapter_config\.json: no adapter .*dvc repro students`$"):
        make(tiny_qwen2, tmp_path / "none")
    adapter = save_adapter(tiny_qwen2, tmp_path / "adapter")
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 513}))
    with pytest.raises(
        EngineFault, match=r"^.*/adapter_config\.json: no adapter of rank 512 or less .*dvc repro students`$"
    ):
        make(tiny_qwen2, adapter)


@pytest.mark.parametrize("failure", [RuntimeError("out of memory"), EngineDeadError("EngineCore encountered an issue")])
def test_a_failure_while_writing_is_the_engines(
    tiny_qwen2: Path, fake_vllm: type[LLM], monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    engine = make(tiny_qwen2)
    session, other = engine.open(0), engine.open(0)
    engine.submit(session, [Message("user", "Hi.")])

    def fail(*_: Any, **__: Any) -> list[Any]:
        raise failure

    monkeypatch.setattr(fake_vllm.last.llm_engine, "step", fail)
    said = f"failed while it was writing replies: {type(failure).__name__}: {failure}"
    with pytest.raises(EngineFault, match=said):
        engine.poll()
    monkeypatch.setattr(fake_vllm.last.llm_engine, "add_request", fail)
    with pytest.raises(EngineFault, match=said):
        engine.submit(other, [Message("user", "Hi.")])


def test_finished_episodes_stay_when_vllm_dies(
    tiny_qwen2: Path, fake_vllm: type[LLM], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = make(tiny_qwen2, slots=1)
    steps, step = iter(range(8)), fake_vllm.last.llm_engine.step

    def some_steps() -> list[Any]:
        if next(steps, None) is None:
            raise EngineDeadError("EngineCore encountered an issue")
        return step()

    monkeypatch.setattr(fake_vllm.last.llm_engine, "step", some_steps)
    tasks = [task(n, steps=1) for n in range(3)]
    with pytest.raises(EngineFault, match="EngineDeadError"):
        play(tmp_path, tasks, World(), engine)
    with Journal(tmp_path, IDENTITY, CODE) as journal:
        assert len(journal.finished) == 1


@pytest.mark.parametrize("reason", ["abort", "error", None])
def test_a_reply_that_vllm_gave_up_is_the_machines_failure(
    tiny_qwen2: Path, fake_vllm: type[LLM], monkeypatch: pytest.MonkeyPatch, reason: str | None
) -> None:
    engine = make(tiny_qwen2)
    monkeypatch.setattr(fake_vllm.last, "write", lambda ids, params: ("Think: I", [1, 2], reason))
    session = engine.open(0)
    engine.submit(session, [Message("user", "Hi.")])
    [reply] = engine.poll()
    assert (reply.session, reply.finish, reply.text) == (session, "fault", "")
    assert reply.error == f"vLLM gave a reply up: {reason}"


def test_a_student_that_answers_as_the_base_is_refused(
    tiny_qwen2: Path, fake_vllm: type[LLM], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    adapter = save_adapter(tiny_qwen2, tmp_path)
    assert make(tiny_qwen2, adapter).slots == 3
    monkeypatch.setattr(fake_vllm, "deaf", True)
    with pytest.raises(EngineFault, match=rf"{adapter} answers as the base does.*dvc repro students"):
        make(tiny_qwen2, adapter)


def test_vllm_ends_with_its_engine(tiny_qwen2: Path, fake_vllm: type[LLM]) -> None:
    engine = make(tiny_qwen2)
    core = fake_vllm.last.llm_engine.engine_core
    del engine
    gc.collect()
    assert core.ended


def test_the_number_format_is_what_params_say(tiny_qwen2: Path, fake_vllm: type[LLM]) -> None:
    assert (make(tiny_qwen2).name, fake_vllm.last.settings["dtype"]) == ("vllm-bfloat16", "bfloat16")
    assert (make(tiny_qwen2, dtype="float32").name, fake_vllm.last.settings["dtype"]) == ("vllm-float32", "float32")
