"""The engine for OpenAI-compatible servers, against one that breaks on real sockets."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from fake_server import ASK, BROKEN, HANG, KEY, STUDENT, FakeServer, Pauses, Say, ask, chat, fault_of, make, serving

from stages.engines.base import EngineFault, Reply


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.setenv("TEST_KEY", KEY)
    with serving() as server:
        yield server


def test_a_turn_is_one_request_with_the_whole_conversation(server: FakeServer) -> None:
    engine = make(server, temperature=0.7)
    reply = ask(engine, seed=2**40 + 41)
    assert (reply.text, reply.finish, reply.error) == ("Action: look", "stop", "")
    assert engine.name == "server:tiny"
    [body] = server.bodies
    assert body == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "You act."}, {"role": "user", "content": "You see a box 1."}],
        "max_tokens": 16,
        "temperature": 0.7,
        "seed": 41,
        "stop": ["\nObs"],
    }
    assert server.keys == {f"Bearer {KEY}"}


def test_tokens_are_those_that_the_server_counts(server: FakeServer) -> None:
    server.script = [chat("a", prompt=90, reply=7), chat("a", prompt=90, prompt_tokens_details={"cached_tokens": 64})]
    engine = make(server)
    plain, cached = ask(engine), ask(engine)
    assert (plain.prompt_tokens, plain.computed_tokens, plain.reply_tokens) == (90, 90, 7)
    assert (cached.prompt_tokens, cached.computed_tokens) == (90, 26)


def test_a_reply_ends_before_the_first_stop_string_whatever_the_server_does(server: FakeServer) -> None:
    server.script = [
        chat("Action: go\nObs", "stop"),
        chat("Action: go\nObs 1\nEnd", "length"),
        chat("Action: g", "length"),
    ]
    engine = make(server, stop=("\nEnd", "\nObs"))
    assert [(r.text, r.finish) for r in (ask(engine) for _ in range(3))] == [
        ("Action: go", "stop"),
        ("Action: go", "stop"),
        ("Action: g", "length"),
    ]


@pytest.mark.parametrize("text", ["", None])
def test_an_empty_reply_is_a_reply(server: FakeServer, text: str | None) -> None:
    server.script = [chat(text, reply=1)]
    reply = ask(make(server))
    assert (reply.text, reply.finish, len(server.bodies)) == ("", "stop", 1)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_what_may_pass_is_tried_again_with_growing_pauses(server: FakeServer, broken: Say | str) -> None:
    server.script = [broken] * 4
    pauses = Pauses()
    assert ask(make(server, retries=4, pause=pauses)).text == "Action: look"
    assert len(server.bodies) == 5
    assert all(2**n / 2 <= pause <= 2**n for n, pause in enumerate(pauses)) and len(pauses) == 4


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_what_does_not_pass_is_the_sessions_fault_and_others_go_on(server: FakeServer, broken: Say | str) -> None:
    server.script = [broken] * 3
    engine = make(server)
    reply = ask(engine)
    assert (reply.text, reply.finish, reply.reply_tokens) == ("", "fault", 0)
    assert "try 3" in reply.error and server.url in reply.error and KEY not in reply.error
    assert ask(engine).finish == "stop"


def test_a_slow_server_is_asked_again(server: FakeServer) -> None:
    server.script = [HANG]
    assert ask(make(server, timeout=0.3)).finish == "stop"
    server.script = [HANG] * 3
    assert "no answer within 0.3 s (engine.server.timeout)" in ask(make(server, timeout=0.3)).error


def test_the_pause_is_as_long_as_the_server_wants(server: FakeServer) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    told = ["17", date, "86400", "soon"]
    server.script = [Say(429, "later", (("Retry-After", value),)) for value in told]
    pauses = Pauses()
    ask(make(server, retries=4, pause=pauses))
    assert pauses[0] == 17
    assert 60 < pauses[1] <= 100
    assert pauses[2] == 300, "a server cannot stop a study for a day"
    assert 4 <= pauses[3] <= 8


def test_a_request_that_the_server_refuses_is_not_sent_again(server: FakeServer) -> None:
    server.script = [Say(400, "bad content")]
    reply = ask(make(server))
    assert (reply.finish, len(server.bodies)) == ("fault", 1)
    assert "HTTP 400 bad content" in reply.error


OVERFLOWS = {
    "OpenAI": (400, {"error": {"message": "Please reduce the length.", "code": "context_length_exceeded"}}),
    "vLLM": (
        400,
        {"message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens."},
    ),
    "SGLang": (400, {"message": "The input (900 tokens) is longer than the model's context length (800 tokens)."}),
    "llama.cpp": (400, {"error": {"message": "try increasing it", "type": "exceed_context_size_error", "n_ctx": 4096}}),
    "older llama.cpp": (500, {"error": {"message": "Context size has been exceeded.", "type": "server_error"}}),
}


@pytest.mark.parametrize("answer", OVERFLOWS.values(), ids=OVERFLOWS)
def test_a_prompt_beyond_the_servers_window_is_said_so(server: FakeServer, answer: tuple[int, Any]) -> None:
    server.script = [Say(answer[0], json.dumps(answer[1]))]
    reply = ask(make(server))
    assert (reply.finish, reply.text, reply.error, len(server.bodies)) == ("context", "", "", 1)


def test_a_prompt_beyond_the_studys_window_is_said_so_where_the_servers_is_wider(server: FakeServer) -> None:
    server.script = [chat("a", prompt=512 - 16), chat("a", prompt=512 - 15)]
    engine = make(server)
    assert (ask(engine).finish, ask(engine)) == ("stop", Reply(2, "", "context", 497, 0, 0))


def test_a_server_with_a_shorter_window_is_refused(server: FakeServer) -> None:
    server.serve_models("tiny", max_model_len=511)
    text = fault_of(server)
    assert "a window of 511 tokens, engine.context is 512" in text and "--max-model-len" in text
    assert ask(make(server, context=511)).finish == "stop"


def test_a_student_is_asked_for_by_the_name_of_its_folder(server: FakeServer) -> None:
    server.serve_models("tiny", "alfworld_react_sft_s0")
    engine = make(server, STUDENT, model="tiny")
    assert engine.name == "server:alfworld_react_sft_s0"
    ask(engine)
    assert server.bodies[0]["model"] == "alfworld_react_sft_s0"


def test_a_student_that_is_not_served_is_named_with_the_way_to_serve_it(server: FakeServer) -> None:
    text = fault_of(server, STUDENT)
    assert "does not serve 'alfworld_react_sft_s0'; its models: tiny." in text
    assert f"--enable-lora --lora-modules alfworld_react_sft_s0={STUDENT}" in text
    assert not server.bodies, "the base model must not play in the student's place"


def test_a_wrong_model_name_lists_those_there_are(server: FakeServer) -> None:
    server.serve_models("tiny", "tall")
    assert "does not serve 'tinny'; its models: tiny, tall. Give engine.server.model" in fault_of(server, model="tinny")
    assert "which model? it serves tiny, tall; give engine.server.model its name" in fault_of(server)
    engine = make(server, model="tall")
    server.script = [Say(404, '{"error": "model tall was unloaded"}')]
    server.serve_models("tiny")
    with pytest.raises(EngineFault, match=r"does not serve 'tall'; its models: tiny\..*HTTP 404 .*unloaded"):
        ask(engine)


def test_a_server_without_a_list_of_models_is_believed(server: FakeServer) -> None:
    server.models = Say(404, "no such route")
    assert ask(make(server, model="any")).finish == "stop"
    assert "it gives no list of its models" in fault_of(server)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_by_its_variable(
    server: FakeServer, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.models = Say(status, f"wrong key {KEY}")
    text = fault_of(server)
    assert f"wants a key (HTTP {status}): see the variable TEST_KEY; the key there is refused" in text
    monkeypatch.delenv("TEST_KEY")
    assert "TEST_KEY; it is not set" in fault_of(server)


def test_the_key_stands_in_no_message(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.script = [Say(500, f"bad header: Bearer {KEY}")] * 3
    assert "bad header: Bearer ***" in ask(make(server)).error
    server.script = [Say(404, f"no such route for {KEY}")]
    assert KEY not in fault_of(server)
    monkeypatch.setenv("TEST_KEY", f"{KEY}\nX-Other: 1")
    text = fault_of(server)
    assert text.startswith("TEST_KEY: a key has no spaces, line breaks") and KEY not in text
    monkeypatch.delenv("TEST_KEY")
    server.keys.clear()
    make(server)
    assert server.keys == {None}


def test_a_server_that_is_not_there_is_said_at_once(server: FakeServer) -> None:
    server.stop()
    pauses = Pauses()
    text = fault_of(server, pause=pauses)
    assert f"no server at {server.url} (ConnectError" in text and "engine.server.url" in text
    assert pauses == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/v1", "http://[::1/v1"])
def test_an_address_that_is_none_is_named(server: FakeServer, url: str) -> None:
    assert url in fault_of(server, url=url)


def test_a_server_that_is_still_loading_is_waited_for(server: FakeServer) -> None:
    ready, server.models = server.models, Say(503, "Loading model")

    async def load_on(seconds: float) -> None:
        server.models = ready

    assert ask(make(server, pause=load_on)).finish == "stop"


def test_a_server_that_goes_away_ends_the_run(server: FakeServer) -> None:
    engine = make(server)
    assert ask(engine).finish == "stop"
    server.stop()
    with pytest.raises(EngineFault, match=r"the server is gone: .* try 3: ConnectError .*; start it and run again"):
        ask(engine)


def test_a_server_that_answers_nobody_is_given_up(server: FakeServer) -> None:
    engine = make(server, slots=2, retries=0)
    server.script = [Say(500, "dead")] * 4
    assert [ask(engine).finish for _ in range(5)] == ["fault"] * 4 + ["stop"], "as many as may all be poisoned"
    server.script = [Say(500, "dead")] * 5
    assert [ask(engine).finish for _ in range(4)] == ["fault"] * 4
    with pytest.raises(EngineFault, match=r"5 requests in a row failed, so the server is taken for broken: .*dead"):
        ask(engine)


def test_as_many_requests_are_on_their_way_as_there_are_slots(server: FakeServer) -> None:
    meeting = threading.Barrier(3, timeout=20)

    def together(body: dict[str, Any]) -> Say:
        meeting.wait()
        return chat("a")

    server.answer = together
    engine = make(server, timeout=30.0)
    sessions = [engine.open(n) for n in range(3)]
    with pytest.raises(RuntimeError, match="all 3 slots are taken"):
        engine.open(3)
    for session in sessions:
        engine.submit(session, ASK)
    replies: list[Reply] = []
    while len(replies) < 3:
        replies += engine.poll()
    assert sorted(r.session for r in replies) == sessions
    assert server.most == 3
    with pytest.raises(RuntimeError, match="nothing was submitted"):
        engine.poll()


def test_a_closed_session_is_given_up(server: FakeServer) -> None:
    arrived = threading.Event()

    def hang(body: dict[str, Any]) -> str:
        arrived.set()
        return HANG

    ready, server.answer = server.answer, hang
    engine = make(server, slots=1, timeout=60.0)
    session = engine.open(0)
    engine.submit(session, ASK)
    assert arrived.wait(20)
    server.answer = ready
    engine.close(session)
    assert ask(engine).session == session + 1, "its place in the pool is free, and nobody waits for its reply"


def test_an_engine_that_is_no_longer_used_ends_its_thread(server: FakeServer) -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "server engine"]

    gc.collect()
    before = threads()
    engine = make(server)
    ask(engine)
    [own] = set(threads()) - set(before)
    del engine
    gc.collect()
    own.join(timeout=20)
    assert not own.is_alive()
