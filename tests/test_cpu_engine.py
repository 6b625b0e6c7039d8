"""The CPU engine against transformers' own `generate`, which encodes the whole prompt anew at every turn."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages.core.records import Message
from stages.engines import cpu
from stages.engines.base import EngineFault, Reply
from stages.engines.kernel import BLOCK

pytest_plugins = ["tiny"]

MAX_NEW = 24
# What the user says in each conversation, turn by turn: of different lengths, so that conversations come and go.
TALKS: tuple[tuple[str, ...], ...] = (
    ("You see a box 1.", "Nothing happens.", "You open the box 1.", "You see a mug 1 and a thing."),
    ("Hi.",),
    ("You are in the middle of a room. " * 20, "On the desk 1, you see a pen 1.", "ok"),  # longer than one pass takes
    ("a", "b", "c", "d", "e"),
    ("Look at the pan 2 under the lamp 1.", "The lamp 1 is on."),
    ("", "☃☃☃"),
    ("Where is the other inner thing?", "Then the hen, the tin.", "In the den."),
)


@pytest.fixture(params=["tiny_llama", "tiny_qwen2"])
def base(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def make_engine(base: Path, adapter: Path | None = None, **settings: Any) -> cpu.CpuEngine:
    defaults = {
        "dtype": "float32",
        "slots": 3,
        "context": 2048,
        "max_new_tokens": MAX_NEW,
        "temperature": 0.0,
        "stop": (),
    }
    return cpu.CpuEngine(base, adapter, **{**defaults, **settings})


def converse(
    engine: cpu.CpuEngine, talks: Sequence[Sequence[str]], seeds: Sequence[int] | None = None
) -> list[list[Reply]]:
    """All conversations, as many at once as there are slots; the replies of each, in order."""
    replies: list[list[Reply]] = [[] for _ in talks]
    spoken: list[list[Message]] = [[Message("system", "You act.")] for _ in talks]
    waiting = list(range(len(talks)))
    live: dict[int, int] = {}

    def say(session: int) -> None:
        talk = live[session]
        spoken[talk].append(Message("user", talks[talk][len(replies[talk])]))
        engine.submit(session, spoken[talk])

    while waiting or live:
        while waiting and len(live) < engine.slots:
            talk = waiting.pop(0)
            session = engine.open(seeds[talk] if seeds else talk)
            live[session] = talk
            say(session)
        for reply in engine.poll():
            talk = live[reply.session]
            replies[talk].append(reply)
            spoken[talk].append(Message("assistant", reply.text))
            if len(replies[talk]) < len(talks[talk]):
                say(reply.session)
            else:
                engine.close(reply.session)
                del live[reply.session]
    return replies


class Judge:
    """Greedy replies by `generate`; `model` is in fp32."""

    def __init__(self, base: Path, model: Any = None) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.model = model or AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)

    @torch.inference_mode()
    def reply(self, talk: Sequence[Message], stops: Sequence[str]) -> tuple[str, str, int, int]:
        """Text, finish, tokens of the prompt and of the reply, which ends with the token that completes a stop string."""
        plain = [{"role": m.role, "content": m.content} for m in talk]
        text = self.tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
        prompt = self.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        out = self.model.generate(
            input_ids=prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=MAX_NEW
        )
        ids = out[0, prompt.shape[1] :].tolist()
        for n in range(len(ids)):
            if ids[n] == self.tokenizer.eos_token_id:
                return self.tokenizer.decode(ids[:n]), "stop", prompt.shape[1], n + 1
            written = self.tokenizer.decode(ids[: n + 1])
            if any(stop in written for stop in stops):
                cut = min(written.index(stop) for stop in stops if stop in written)
                return written[:cut], "stop", prompt.shape[1], n + 1
        return self.tokenizer.decode(ids), "length", prompt.shape[1], len(ids)

    def converse(
        self, talks: Sequence[Sequence[str]], stops: Sequence[str] = ()
    ) -> list[list[tuple[str, str, int, int]]]:
        replies = []
        for talk in talks:
            spoken = [Message("system", "You act.")]
            replies.append([])
            for said in talk:
                spoken.append(Message("user", said))
                replies[-1].append(self.reply(spoken, stops))
                spoken.append(Message("assistant", replies[-1][-1][0]))
        return replies


@functools.cache
def expected(base: Path, stops: tuple[str, ...] = ()) -> list[list[tuple[str, str, int, int]]]:
    return Judge(base).converse(TALKS, stops)


def facts(replies: Sequence[Sequence[Reply]]) -> list[list[tuple[str, str, int, int]]]:
    return [[(r.text, r.finish, r.prompt_tokens, r.reply_tokens) for r in talk] for talk in replies]


def flat(talks: Sequence[Sequence[Any]]) -> list[Any]:
    return [item for talk in talks for item in talk]


def test_replies_are_those_of_generate_while_conversations_come_and_go(base: Path) -> None:
    replies = converse(make_engine(base), TALKS)
    assert facts(replies) == expected(base)
    assert {r.finish for r in flat(replies)} == {"stop", "length"}, "the models must show both endings"


def test_replies_do_not_depend_on_who_shares_the_batch(base: Path) -> None:
    def all_of(replies: Sequence[Sequence[Reply]]) -> list[list[tuple[Any, ...]]]:
        return [
            [(r.text, r.finish, r.prompt_tokens, r.computed_tokens, r.reply_tokens) for r in talk] for talk in replies
        ]

    together = all_of(converse(make_engine(base, slots=len(TALKS)), TALKS))
    assert together == all_of(converse(make_engine(base, slots=1), TALKS))
    backwards = converse(make_engine(base, slots=2), TALKS[::-1])
    assert together == all_of(backwards[::-1])


def test_a_prefix_is_encoded_once(base: Path) -> None:
    for talk in converse(make_engine(base), TALKS):
        for before, reply in itertools.pairwise(talk):
            assert reply.computed_tokens < reply.prompt_tokens - before.prompt_tokens + 1


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tokens of each pass."""
    whole = cpu.CpuEngine._forward
    seen: list[int] = []

    def forward(self: cpu.CpuEngine, plan: list[tuple[int, list[int]]]) -> torch.Tensor:
        seen.append(sum(len(ids) for _, ids in plan))
        return whole(self, plan)

    monkeypatch.setattr(cpu.CpuEngine, "_forward", forward)
    return seen


def test_what_conversations_open_with_alike_is_encoded_once_and_changes_no_reply(
    base: Path, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu.Drafter, "draft", lambda *_: [])
    rules = "You are in the middle of a room. " * 12
    talks = [(rules + said, "Nothing happens.") for said in ("A pen.", "A pan.", "A tin.", "A hen.", "A den.")]
    replies = converse(make_engine(base, slots=2), talks)
    assert facts(replies) == Judge(base).converse(talks)
    claimed = sum(r.computed_tokens + r.reply_tokens for r in flat(replies))
    # Each of the other four uses all whole blocks of what the first one opened with; a reply's last token is not encoded for itself.
    saved = 4 * (min(talk[0].prompt_tokens for talk in replies) // BLOCK - 1) * BLOCK
    assert claimed - sum(passes) >= saved > 0
    assert all(talk[0].computed_tokens == talk[0].prompt_tokens for talk in replies), "as if each were alone"


def test_what_a_closed_conversation_opened_with_is_kept_for_the_next(base: Path, passes: list[int]) -> None:
    engine = make_engine(base, slots=1, max_new_tokens=1)
    talk = ("You are in the middle of a room. " * 12,)
    first, again = converse(engine, [talk, talk])
    assert again[0].text == first[0].text
    assert passes[-1] <= BLOCK < first[0].prompt_tokens


def test_guesses_save_passes_and_change_no_reply(
    base: Path, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    talks = [TALKS[0], TALKS[3]] * 4  # what was said twice is guessed from then on
    guessed = facts(converse(make_engine(base, slots=2), talks))
    with_guesses = len(passes)
    passes.clear()
    monkeypatch.setattr(cpu.Drafter, "draft", lambda *_: [])
    assert facts(converse(make_engine(base, slots=2), talks)) == guessed
    assert with_guesses < 0.7 * len(passes)
    assert guessed[:2] == [expected(base)[0], expected(base)[3]]


def memory_for(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let passes of more tokens fail as they do where memory is short."""
    whole = cpu.CpuEngine._forward

    def forward(self: cpu.CpuEngine, plan: list[tuple[int, list[int]]]) -> torch.Tensor:
        if sum(len(ids) for _, ids in plan) > tokens:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.")
        return whole(self, plan)

    monkeypatch.setattr(cpu.CpuEngine, "_forward", forward)


def test_where_memory_is_short_passes_are_halved_and_replies_stay(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    memory_for(5, monkeypatch)
    assert facts(converse(make_engine(base, slots=len(TALKS)), TALKS)) == expected(base)
    assert capsys.readouterr().err.count("memory is short") == 1


def test_a_pass_that_no_memory_is_enough_for_is_a_fault_of_the_engine(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_for(0, monkeypatch)
    with pytest.raises(EngineFault, match=r"failed on 1 tokens: .*not enough memory"):
        converse(make_engine(tiny_llama), TALKS[:1])


def test_slots_are_halved_until_their_keys_and_values_fit(
    tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_pool = cpu.BlockPool

    def pool(layers: int, blocks: int, *rest: Any) -> Any:
        if blocks > 2048 // BLOCK * 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory")
        return make_pool(layers, blocks, *rest)

    monkeypatch.setattr(cpu, "BlockPool", pool)
    engine = make_engine(tiny_llama, slots=8)
    assert engine.slots == 2
    assert "2 episodes at once" in capsys.readouterr().err
    assert facts(converse(engine, TALKS)) == expected(tiny_llama)


def test_a_conversation_goes_on_after_a_stop_string_as_if_no_more_had_been_written(base: Path) -> None:
    first = [talk[0][0] for talk in expected(base)]
    # Strings that the model does write, before a last turn; two of them end at the same token.
    stops = (first[3][9:11], first[0][3:6], first[0][4:6])
    assert all(stop.isascii() and len(stop) > 1 for stop in stops)
    judged = expected(base, stops)
    assert judged[0][0][0] == first[0][:3]
    assert 0 < len(judged[3][0][0]) < 10
    replies = converse(make_engine(base, stop=stops), TALKS)
    assert facts(replies) == judged
    assert not any(stop in r.text for r in flat(replies) for stop in stops)


def test_a_conversation_goes_on_after_the_token_limit(base: Path) -> None:
    cut = [r for talk in converse(make_engine(base), TALKS) for r in talk[:-1] if r.finish == "length"]
    assert cut, "some reply must be cut before a conversation's last turn"
    assert all(r.reply_tokens == MAX_NEW for r in cut)


def test_what_no_longer_fits_the_window_is_said_and_not_written(base: Path) -> None:
    [whole] = converse(make_engine(base), [TALKS[3]])
    third = whole[2].prompt_tokens
    engine = make_engine(base, context=third + MAX_NEW - 1)
    [short] = converse(engine, [TALKS[3]])
    assert facts([short[:2]]) == facts([whole[:2]])
    assert (short[2].text, short[2].finish, short[2].prompt_tokens) == ("", "context", third)
    assert (short[2].computed_tokens, short[2].reply_tokens) == (0, 0)
    assert facts(converse(engine, [TALKS[1]])) == [expected(base)[1]], "its place must be free for another"


def test_a_reply_may_fill_the_window(base: Path) -> None:
    [whole] = converse(make_engine(base), [TALKS[3]])
    [exact] = converse(make_engine(base, context=whole[-1].prompt_tokens + MAX_NEW), [TALKS[3]])
    assert facts([exact]) == facts([whole])


def test_the_model_s_own_window_is_a_limit_too(tiny_llama: Path) -> None:
    [[reply]] = converse(make_engine(tiny_llama, context=10**6, slots=1), [["long " * 500]])
    assert reply.finish == "context"


def test_draws_are_repeated_by_seed_whatever_the_batch(base: Path) -> None:
    seeds = list(range(100, 100 + len(TALKS)))
    warm = {"temperature": 1.5}
    together = converse(make_engine(base, slots=4, **warm), TALKS, seeds)
    alone = converse(make_engine(base, slots=1, **warm), TALKS, seeds)
    assert facts(together) == facts(alone)
    others = converse(make_engine(base, slots=4, **warm), TALKS, [seed + 1000 for seed in seeds])
    assert all(a[0] != b[0] for a, b in zip(facts(together), facts(others), strict=True))
    assert facts(together) != expected(base)


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """A random adapter on every linear layer, strong enough to change what is said."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_changes_replies_as_peft_does(base: Path, adapter: Path) -> None:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    judged = Judge(base, model).converse(TALKS)
    assert judged != expected(base)
    assert facts(converse(make_engine(base, adapter), TALKS)) == judged


def test_sessions_beyond_the_slots_are_refused(tiny_llama: Path) -> None:
    engine = make_engine(tiny_llama, slots=1)
    first = engine.open(0)
    with pytest.raises(RuntimeError, match="all 1 slots are taken"):
        engine.open(1)
    engine.close(first)
    engine.open(1)
    with pytest.raises(RuntimeError, match="nothing was submitted"):
        engine.poll()


def test_the_number_format_is_that_of_the_settings_and_stands_in_the_name(tiny_llama: Path) -> None:
    assert make_engine(tiny_llama).name == "cpu-float32"
    engine = make_engine(tiny_llama, dtype="bfloat16")
    assert engine.name == "cpu-bfloat16"
    assert len(flat(converse(engine, TALKS[:2]))) == 5
    assert make_engine(tiny_llama, dtype="auto").name in ("cpu-float32", "cpu-bfloat16")


@pytest.mark.parametrize(
    "damage",
    [
        "no folder",
        "no weights",
        "torn weights",
        "no tokenizer",
        "bad config",
        "other weights",
        "no adapter",
        "torn adapter",
    ],
)
def test_a_model_that_does_not_load_is_named(tiny_llama: Path, tmp_path: Path, damage: str) -> None:
    base, adapter = tmp_path / "base", None
    if damage != "no folder":
        shutil.copytree(tiny_llama, base)
    weights = base / "model.safetensors"
    if damage == "no weights":
        weights.unlink()
    if damage == "torn weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    if damage == "no tokenizer":
        for path in base.glob("tokenizer*"):
            path.unlink()
    if damage == "bad config":
        (base / "config.json").write_text("{")
    if damage == "other weights":
        config = base / "config.json"
        config.write_text(config.read_text().replace('"hidden_size": 48', '"hidden_size": 24'))
    if damage in ("no adapter", "torn adapter"):
        adapter = tmp_path / "adapter"
    if damage == "torn adapter":
        model = AutoModelForCausalLM.from_pretrained(base)
        get_peft_model(model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")).save_pretrained(
            tmp_path / "adapter"
        )
        torn = tmp_path / "adapter" / "adapter_model.safetensors"
        torn.write_bytes(torn.read_bytes()[:1000])
    with pytest.raises(EngineFault) as caught:
        make_engine(base, adapter)
    assert str(base) in str(caught.value)
    assert "dvc repro" in str(caught.value)
