"""What a server's answer must be to count as the agent's reply, and how it is read where servers differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_server import ASK, FakeServer, Pauses, Say, ask, chat, fault_of, make, serving

from stages.core.records import Message
from stages.engines.base import EngineFault
from stages.engines.server import ServerEngine

pytest_plugins = ["tiny"]

LOOK = "Think: a\nAction: look"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as server:
        yield server


@pytest.mark.parametrize(("said", "finish"), [("eos", "stop"), ("eos_token", "stop"), ("max_tokens", "length")])
def test_an_end_by_another_name_is_one(server: FakeServer, said: str, finish: str) -> None:
    server.script = [chat(LOOK, said)]
    assert (ask(make(server)).finish, len(server.bodies)) == (finish, 1)


@pytest.mark.parametrize("text", [None, "", "Think: I go to the"])
@pytest.mark.parametrize("finish", ["abort", "error", "content_filter", "tool_calls", "function_call", None])
def test_a_reply_that_was_not_ended_properly_is_asked_for_again(
    server: FakeServer, finish: str | None, text: str | None
) -> None:
    server.script = [chat(text, finish)]
    pauses = Pauses()
    assert ask(make(server, pause=pauses)).text == "Action: look"
    assert len(server.bodies) == 2 and len(pauses) == 1
    server.script = [chat(text, finish)] * 3
    reply = ask(make(server))
    assert (reply.text, reply.finish) == ("", "fault"), "the machine's failure, and no turn of the agent"
    assert "try 3" in reply.error and "choices.0.finish_reason" in reply.error
    assert finish is None or f"{finish!r}, and a reply is whole only with stop or length" in reply.error


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_an_answer_among_the_thoughts_is_a_fault_that_names_the_parser(server: FakeServer, field: str) -> None:
    server.answer = lambda body: chat(None, message={field: LOOK})
    text = fault_of(server)
    assert "content is empty: the server's reasoning parser takes it for a thought" in text
    assert "--reasoning-parser" in text and "Think: a" in text


def test_a_thought_that_the_server_took_out_is_recorded_and_not_sent_back(server: FakeServer) -> None:
    server.answer = lambda body: chat(LOOK, message={"reasoning_content": "Hm."}, reply=9)
    engine = make(server)
    session = engine.open(0)
    engine.submit(session, ASK)
    [reply] = engine.poll()
    assert (reply.text, reply.finish, reply.reply_tokens) == (f"<think>\nHm.\n</think>\n\n{LOOK}", "stop", 9)
    engine.submit(session, [*ASK, Message("assistant", reply.text), Message("user", "You see a mug 1.")])
    engine.poll()
    assert server.bodies[-1]["messages"][2] == {"role": "assistant", "content": LOOK}


def test_a_model_that_thought_and_said_nothing_is_the_agents_own_once_others_were_heard(server: FakeServer) -> None:
    server.script = [chat(LOOK), *[chat("", message={"reasoning": "Hm."})] * 2]
    engine = make(server)
    assert [ask(engine).text for _ in range(2)] == [LOOK, "<think>\nHm.\n</think>\n\n"]


def test_a_thought_that_was_cut_is_an_open_block(server: FakeServer) -> None:
    server.script = [chat(None, "length", message={"reasoning": "Hm\nAction: no"})]
    reply = ask(make(server))
    assert (reply.text, reply.finish) == ("<think>\nHm\nAction: no", "length")


@pytest.mark.parametrize("opening", ["<think>\nI look.\n</think>", "I look.\n</think>", "\n"])
def test_a_stop_string_before_anything_is_said_ends_no_reply(server: FakeServer, opening: str) -> None:
    whole = f"{opening}\nThink: b\nAction: look\nThink: c"

    def honest(body: dict[str, Any]) -> Say:
        ends = [whole.index(stop) for stop in body.get("stop", ()) if stop in whole]
        return chat(whole[: min(ends, default=len(whole))])

    server.answer = honest
    engine = make(server, stop=("\nObservation:", "\nThink:"))
    assert [ask(engine).text for _ in range(2)] == [f"{opening}\nThink: b\nAction: look"] * 2
    assert ["stop" in body for body in server.bodies] == [True, False, False]


def test_content_in_parts_is_joined(server: FakeServer) -> None:
    said = [{"type": "text", "text": "Think: a\n"}, {"type": "text", "text": "Action: look"}]
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    server.script = [chat(said), chat([thought, *said]), chat(["Action: ", "look"]), chat([])]
    engine = make(server)
    replies = [ask(engine).text for _ in range(4)]
    assert replies[:3] == [LOOK, f"<think>\nHm.\n</think>\n\n{LOOK}", "Action: look"]
    server.script = [chat([{"type": "text", "text": 3}])] * 3
    assert "expected text, found 3" in ask(engine).error


class Growing:
    """A conversation that grows by 20 words a turn, with the counts that the server gives."""

    def __init__(self, server: FakeServer, *counts: int) -> None:
        server.script = [chat("Action: look", prompt=count) for count in counts]
        self.engine = make(server, context=8192)
        self.session, self.messages = self.engine.open(0), list(ASK)

    def turn(self) -> int:
        self.engine.submit(self.session, self.messages)
        [reply] = self.engine.poll()
        self.messages += [Message("assistant", reply.text), Message("user", "You see a box. " * 5)]
        return reply.prompt_tokens


@pytest.mark.parametrize(
    ("counts", "turns"), [((3974, 2051), 1), ((2040, 2048, 2048, 2048), 2), ((20, 60, 62, 64, 66), 3)]
)
def test_a_server_that_cuts_prompts_is_found_out(server: FakeServer, counts: tuple[int, ...], turns: int) -> None:
    talk = Growing(server, *counts)
    assert [talk.turn() for _ in range(turns)] == [*counts[:turns]]
    with pytest.raises(EngineFault, match=rf"cuts prompts: it counts {counts[turns]} .*engine\.context 8192 tokens"):
        while True:
            talk.turn()


def test_a_first_prompt_that_cannot_be_whole_is_found_out(server: FakeServer) -> None:
    server.script = [chat("Action: look", prompt=100)]
    engine = make(server, context=8192)
    engine.submit(engine.open(0), [Message("user", "word " * 1000)])
    with pytest.raises(EngineFault, match="it counts 100 tokens for a conversation of 1000 words"):
        engine.poll()


def test_prompts_may_lose_what_a_template_opens_a_reply_with(server: FakeServer) -> None:
    talk = Growing(server, 40, 60, 85, 105)
    assert [talk.turn() for _ in range(4)] == [40, 60, 85, 105]
    again = talk.engine.open(1)
    talk.engine.submit(again, ASK)
    assert talk.engine.poll()[0].finish == "stop", "another session has its own count"


OVERFLOWS = [
    (400, "Prompt too long"),
    (400, "prompt is too long: 205000 tokens > 200000 maximum"),
    (400, "prompt token count of 70000 exceeds the limit of 64000"),
    (400, "The input token count (40000) exceeds the maximum number of tokens allowed (32768)."),
    (400, "Please reduce the length of the messages or completion."),
    (413, "The input is too large for this model"),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 `inputs` tokens"),
    (422, "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000"),
    (400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
    (400, "Range of input length should be [1, 30720]"),
    (200, "This model's maximum context length is 4096 tokens."),
]


@pytest.mark.parametrize(("status", "text"), OVERFLOWS)
def test_a_prompt_that_is_too_long_is_understood_in_many_words(server: FakeServer, status: int, text: str) -> None:
    server.script = [Say(status, json.dumps({"error": {"message": text}}))]
    assert (ask(make(server)).finish, len(server.bodies)) == ("context", 1)


@pytest.mark.parametrize(
    "text", ["max_tokens is too large: 16", "temperature: Input should be less than 2", "the prompt is not allowed"]
)
def test_other_refusals_are_no_overflow(server: FakeServer, text: str) -> None:
    server.script = [Say(400, text)]
    assert ask(make(server)).finish == "fault"


@pytest.mark.parametrize(
    ("status", "name", "text", "other"),
    [
        (400, "max_tokens", "Unsupported parameter: 'max_tokens' is not supported with this model.", True),
        (
            422,
            "seed",
            '{"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]}',
            False,
        ),
        (400, "seed", "Unrecognized request argument supplied: seed", False),
        (400, "stop", "Unsupported parameter: 'stop' is not supported with this model.", False),
    ],
)
def test_what_a_server_refuses_is_asked_otherwise_and_said_once(
    server: FakeServer, status: int, name: str, text: str, other: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = lambda body: Say(status, text) if name in body else chat("Action: look\nObs")
    engine = make(server)
    assert [ask(engine).text for _ in range(2)] == ["Action: look"] * 2
    assert [name in body for body in server.bodies] == [True, False, False]
    assert server.bodies[-1].get("max_completion_tokens") == (16 if other else None)
    how = "asked with max_completion_tokens" if other else "asked without it"
    assert capsys.readouterr().err == f"engine: {server.url} refuses {name}: {how} from here on\n"


def test_what_determines_replies_is_not_left_out(server: FakeServer) -> None:
    server.answer = lambda body: Say(400, "'temperature' is not supported with this model")
    assert ask(make(server)).finish == "fault" and len(server.bodies) == 1


def without_usage(usage: Any) -> Say:
    said = json.loads(chat("Action: look").body)
    said["usage"] = usage
    return Say(200, json.dumps(said))


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "completion_tokens": None}])
def test_tokens_that_a_server_does_not_count_are_counted_by_the_models_tokenizer(
    server: FakeServer, usage: Any, tiny_llama: Path, tiny_tokenizer: Any
) -> None:
    server.script = [without_usage(usage)]
    engine = make(server, base=tiny_llama)
    assert engine.name == "server:tiny"
    reply = ask(engine)
    ids = tiny_tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in ASK], add_generation_prompt=True, return_dict=False
    )
    assert (reply.text, reply.prompt_tokens, reply.computed_tokens) == ("Action: look", len(ids), len(ids))
    assert reply.reply_tokens == len(tiny_tokenizer("Action: look")["input_ids"]) + 1, "with its end token"
    assert engine.name == "server:tiny (tokens counted here)"


def test_tokens_that_nobody_can_count_are_one_clear_fault(server: FakeServer, tmp_path: Path) -> None:
    server.answer = lambda body: without_usage(None)
    text = fault_of(server, base=tmp_path)
    assert f"does not say how many tokens it reads and writes (`usage`), and {tmp_path} has no tokenizer" in text
    assert len(server.bodies) == 1


def test_a_part_of_usage_that_is_there_is_believed(server: FakeServer, tiny_llama: Path) -> None:
    server.script = [without_usage({"prompt_tokens": 70, "completion_tokens": None, "prompt_tokens_details": None})]
    engine: ServerEngine = make(server, base=tiny_llama)
    reply = ask(engine)
    assert (reply.prompt_tokens, reply.computed_tokens) == (70, 70) and reply.reply_tokens > 1
