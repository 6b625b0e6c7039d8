"""The compared CPU engines: same work, same replies, same weights in every file format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from candidates import engines, models, work
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages.core.records import Message

pytest_plugins = ["tiny"]

WORK = [
    work.Recorded(
        [Message("system", "You act."), Message("user", f"You see {'a fork, ' * number}and a cup.")],
        [Message("user", f"Nothing happens {'again ' * (number + turn)}.") for turn in range(number)],
    )
    for number in range(1, 4)
]


@pytest.fixture(scope="module")
def files(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> engines.Files:
    folder = tmp_path_factory.mktemp("model") / "model"
    models.never_ending(tiny_llama, folder)
    _write_capitals_only(folder)
    return engines.Files(folder, {}, slots=len(WORK), threads=1, dtype=torch.float32)


def _write_capitals_only(folder: Path) -> None:
    """So that a reply's text is encoded to the very tokens that were written: no half characters, no merged pairs."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    others = [n for n in range(len(tokenizer)) if not (len(word := tokenizer.decode([n])) == 1 and "A" <= word <= "Z")]
    weights["lm_head.weight"][others] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


class Overheard:
    """An engine whose replies are kept, in turn, a session."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.replies: dict[int, list[str]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def poll(self) -> Any:
        replies = self._engine.poll()
        for reply in replies:
            self.replies.setdefault(reply.session, []).append(reply.text)
        return replies


def _replies(engine: Any) -> list[list[str]]:
    overheard = Overheard(engine)
    done = work.play(overheard, WORK)
    assert done.turns == sum(1 + len(record.observations) for record in WORK)
    assert done.written == done.turns * work.REPLY
    return [overheard.replies[session] for session in sorted(overheard.replies)]


@pytest.fixture(scope="module")
def expected(files: engines.Files) -> list[list[str]]:
    """One conversation at a time, nothing kept from turn to turn."""
    model: Any = AutoModelForCausalLM.from_pretrained(files.folder, dtype=files.dtype)

    class Plain(engines.ByTokens):
        def ask(self, session: int, ids: list[int]) -> None:
            asked.append((session, ids[:]))

        def answers(self) -> list[tuple[int, str]]:
            session, ids = asked.pop()
            out = model.generate(torch.tensor([ids]), max_new_tokens=work.REPLY, do_sample=False)
            return [(session, self.tokenizer.decode(out[0, len(ids) :]))]

    asked: list[tuple[int, list[int]]] = []
    return _replies(Plain(files))


def test_the_embedded_engine_is_given_the_same_work(files: engines.Files, expected: list[list[str]]) -> None:
    assert _replies(engines.ours(files)) == expected


def test_lockstep_replies_are_those_of_each_conversation_by_itself(
    files: engines.Files, expected: list[list[str]]
) -> None:
    engine = engines.Lockstep(files)
    assert _replies(engine) == expected
    assert _replies(engine) == expected  # after all are closed, others may begin


def test_a_static_cache_changes_no_reply(files: engines.Files, expected: list[list[str]]) -> None:
    assert _replies(engines.Lockstep(files, static=True)) == expected


def test_continuous_batching_changes_no_reply(files: engines.Files, expected: list[list[str]]) -> None:
    engine = engines.Paged(files)
    try:
        assert _replies(engine) == expected
    finally:
        engine.stop()


def test_no_reply_ends_by_itself(files: engines.Files, expected: list[list[str]]) -> None:
    assert not any("<|im_end|>" in reply for replies in expected for reply in replies)


def test_a_gguf_file_holds_the_same_weights(files: engines.Files, tmp_path: Path) -> None:
    models.gguf_file(files.folder, "F16", tmp_path / "model.gguf")
    model: Any = AutoModelForCausalLM.from_pretrained(files.folder, dtype=torch.float32)
    read: Any = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    weights = read.state_dict()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-3, atol=1e-6)
