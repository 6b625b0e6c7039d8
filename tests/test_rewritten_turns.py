"""Engines with chat templates that rewrite earlier turns, against transformers' `generate` on the whole prompt."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from fake_server import chat, serving
from fake_vllm import LLM, modules
from talks import converse
from transformers import AutoModelForCausalLM

from stages.core.params import load
from stages.core.records import Message
from stages.engines import cpu
from stages.engines.base import Engine, EngineFault, Reply
from stages.engines.opening import open_engine
from stages.engines.vllm import VllmEngine
from stages.models.chat import Chat, open_chat
from stages.models.conversation import Conversation, examples

pytest_plugins = ["tiny"]

FAMILIES = ("qwen3_5_nothink", "qwen3_5_think", "deepseekv3", "glm4moe", "qwen3")
TALKS = (
    ("You are in the middle of a room. " * 20, "Nothing happens.", "On the desk 1, you see a pen 1.", "ok"),
    ("You are in the middle of a room. " * 20, "You see a mug 1.", "ok"),  # the same opening, encoded once
    ("Hi.", "", "Go on.\n", "And then?"),
)
SETTINGS: dict[str, Any] = {
    "dtype": "float32",
    "slots": 3,
    "context": 2048,
    "max_new_tokens": 16,
    "temperature": 0.0,
    "stop": (),
}


def with_template(model: Path, tmp_path: Path, family: str) -> Path:
    """The model with the chat template of a family that trl ships."""
    folder = shutil.copytree(model, tmp_path / "model")
    shutil.copy(Path(trl.__file__).parent / f"chat_templates/{family}.jinja", folder / "chat_template.jinja")
    return folder


@pytest.fixture(params=FAMILIES)
def base(request: pytest.FixtureRequest, tiny_qwen2: Path, tmp_path: Path) -> Path:
    return with_template(tiny_qwen2, tmp_path, request.param)


def spoken(replies: Sequence[Reply], talk: Sequence[str]) -> list[Message]:
    messages = [Message("system", "You act.")]
    for said, reply in zip(talk, replies, strict=True):
        messages += [Message("user", said), Message("assistant", reply.text, train=True)]
    return messages


@torch.inference_mode()
def judged(base: Path, chat: Chat, messages: Sequence[Message]) -> list[tuple[str, int]]:
    """What `generate` replies at each turn of a conversation, and how long its prompt is."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    talk, found = Conversation(), []
    for place in range(2, len(messages), 2):
        talk.ask(chat, messages[:place])
        ids = torch.tensor([talk.ids])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16)
        written = out[0, ids.shape[1] :].tolist()
        ended = written[-1] in (chat.end, chat.tokenizer.eos_token_id)
        found.append((chat.read(chat.tokenizer.decode(written[: len(written) - ended])), ids.shape[1]))
        talk.answer(chat, messages[place].content)
    return found


def test_the_embedded_engine_replies_as_if_each_prompt_were_encoded_anew(base: Path) -> None:
    chat, replies = open_chat(base), converse(cpu.CpuEngine(base, None, **SETTINGS), TALKS)
    for talk, said in zip(TALKS, replies, strict=True):
        assert [(r.text, r.prompt_tokens) for r in said] == judged(base, chat, spoken(said, talk))
        # What prompts begin with alike stays encoded.
        assert all(after.computed_tokens < after.prompt_tokens for after in said[1:])


def test_a_rewritten_opening_is_not_written_over_where_others_use_it(tiny_qwen2: Path, tmp_path: Path) -> None:
    folder = with_template(tiny_qwen2, tmp_path, "qwen3_5_nothink")
    # Of each length two: one of them goes on while the other still begins with what it had encoded.
    talks = [("x" * length, *("ok",) * turns) for length in range(300, 364, 16) for turns in (1, 2)]
    chat, engine = open_chat(folder), cpu.CpuEngine(folder, None, **{**SETTINGS, "slots": 8})
    replies = converse(engine, talks)
    for talk, said in zip(talks, replies, strict=True):
        assert [(r.text, r.prompt_tokens) for r in said] == judged(folder, chat, spoken(said, talk))
    for session in range(1, 9):
        engine.close(session)
    assert [[r.text for r in said] for said in converse(engine, talks)] == [[r.text for r in said] for said in replies]


def test_vllm_is_given_the_same_prompts(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    own = converse(cpu.CpuEngine(base, None, **SETTINGS), TALKS)
    other = converse(VllmEngine(base, None, gpu_memory=0.5, tensor_parallel=1, **SETTINGS), TALKS)
    assert [[(r.text, r.prompt_tokens) for r in talk] for talk in own] == [
        [(r.text, r.prompt_tokens) for r in talk] for talk in other
    ]
    assert LLM.last.llm_engine.seen


def test_students_are_trained_on_what_the_engine_met(base: Path) -> None:
    chat = open_chat(base)
    [_, _, said] = converse(cpu.CpuEngine(base, None, **SETTINGS), TALKS)
    messages = spoken(said, TALKS[2])
    starts = [
        place
        for example in examples(chat, messages)
        for place in range(1, len(example.labels))
        if example.labels[place - 1] == -100 != example.labels[place]
    ]
    assert starts == [reply.prompt_tokens for reply in said]


def test_template_arguments_stand_in_the_models_record(tiny_qwen2: Path, tmp_path: Path) -> None:
    folder = with_template(tiny_qwen2, tmp_path, "qwen3")
    (folder / "identity.json").write_text(json.dumps({"template": {"enable_thinking": False}}))
    engine = cpu.CpuEngine(folder, None, **SETTINGS)
    engine.submit(engine.open(0), [Message("user", "Hi.")])
    [reply] = engine.poll()
    header = "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert reply.prompt_tokens == len(open_chat(folder).encode(header))


def opened(url: str, base: Path, template: dict[str, Any], stop: Sequence[str] = ()) -> Engine:
    (base / "identity.json").write_text(json.dumps({"template": template}))
    settings = load().engine
    server = settings.server.model_copy(update={"url": url})
    return open_engine(settings.model_copy(update={"kind": "server", "server": server}), base, None, stop)


def test_a_server_is_sent_the_template_arguments_and_only_where_there_are_any(tmp_path: Path) -> None:
    with serving() as server:
        for template in ({}, {"enable_thinking": False}):
            engine = opened(server.url, tmp_path, template)
            engine.submit(engine.open(0), [Message("user", "Hi.")])
            engine.poll()
    plain, told = server.bodies
    assert "chat_template_kwargs" not in plain
    assert told["chat_template_kwargs"] == {"enable_thinking": False}


def test_thoughts_that_a_server_leaves_in_their_familys_marks_are_thoughts(tiny_qwen2: Path, tmp_path: Path) -> None:
    base = with_template(tiny_qwen2, tmp_path, "gemma4_v5")
    talk = [Message("system", "You act."), Message("user", "Hi.")]
    with serving() as server:
        server.answer = lambda body: chat("<|channel>thought\nMaybe\nAction: fly\n<channel|>Action: look")
        engine = opened(server.url, base, {})
        session = engine.open(0)
        for _ in range(2):
            engine.submit(session, talk)
            [reply] = engine.poll()
            assert reply.text == "<think>\nMaybe\nAction: fly\n</think>Action: look"
            talk += [Message("assistant", reply.text), Message("user", "Go on.")]
    assert server.bodies[-1]["messages"][2]["content"] == "Action: look"


def test_vllm_which_would_end_a_reply_in_its_thought_is_not_told_the_stop_strings(
    tiny_qwen2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    folder = with_template(tiny_qwen2, tmp_path, "qwen3")
    engine: Engine = VllmEngine(folder, None, gpu_memory=0.5, tensor_parallel=1, **{**SETTINGS, "stop": ("\nAction:",)})
    engine.submit(engine.open(0), [Message("user", "Hi.")])
    [(_, sampling)] = LLM.last.llm_engine.requests.values()
    assert sampling.stop == []


def test_a_server_cannot_be_told_the_date(tmp_path: Path) -> None:
    with serving() as server, pytest.raises(EngineFault, match="a server's template asks its own clock"):
        opened(server.url, tmp_path, {"strftime_now": "2026-01-31"})
