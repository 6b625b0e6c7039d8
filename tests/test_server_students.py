"""Names of models on a server, and that a student which plays there is the student."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from fake_server import ASK, STUDENT, FakeServer, Say, ask, chat, fault_of, make, serving, weighed

from stages.core.records import Message
from stages.engines.base import EngineFault
from stages.engines.proof import Sample, told_apart

NAME = "alfworld_react_sft_s0"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as server:
        server.serve_models("tiny", NAME)
        yield server


def test_a_student_is_compared_with_its_base_before_it_plays(server: FakeServer) -> None:
    engine = make(server, STUDENT)
    assert not server.probes and not server.bodies
    assert [ask(engine).text for _ in range(2)] == ["Action: look"] * 2
    assert [probe["model"] for probe in server.probes] == ["tiny", "tiny", NAME], "once, by the first prompt"
    assert {probe["temperature"] for probe in server.probes} == {0}
    assert [m["content"] for m in server.probes[2]["messages"]] == [m.content for m in ASK]
    assert [body["model"] for body in server.bodies] == [NAME] * 2


def test_a_server_that_answers_as_the_base_is_refused_in_the_students_place(server: FakeServer) -> None:
    server.weigh = lambda model: weighed("Think", -0.5 if ":" not in model else -0.9)
    text = fault_of(server, STUDENT)
    assert f"'{NAME}' and its base 'tiny' answer with the same log-probabilities" in text
    assert 'set engine.server.student to "{base}:{name}"' in text
    assert not server.bodies, "no episode is played"
    engine = make(server, STUDENT, student="{base}:{name}")
    ask(engine)
    assert (engine.name, server.bodies[0]["model"]) == (f"server:tiny:{NAME}", f"tiny:{NAME}")


def test_differences_within_the_servers_own_rounding_show_nothing(server: FakeServer) -> None:
    values = iter([-0.50, -0.53, -0.47])
    server.weigh = lambda model: weighed("Think", next(values))
    assert "with the same log-probabilities" in fault_of(server, STUDENT)


@pytest.mark.parametrize("refusal", [Say(400, "logprobs are not supported"), chat("Think: a")])
def test_without_log_probabilities_replies_are_compared(server: FakeServer, refusal: Say) -> None:
    server.weigh = lambda model: refusal if refusal.status == 400 else chat(f"I am {model}")
    server.answer = lambda body: chat(f"I am {body['model']}")
    assert ask(make(server, STUDENT)).text == f"I am {NAME}"
    server.weigh = lambda model: refusal
    server.answer = lambda body: chat("I am the base")
    assert "the same text, and the server gives no log-probabilities" in fault_of(server, STUDENT)


def test_a_first_prompt_that_is_too_long_leaves_the_proof_to_the_next(server: FakeServer) -> None:
    weigh, server.weigh = server.weigh, lambda model: Say(400, "prompt is too long")
    server.script = [Say(400, "prompt is too long")]
    engine = make(server, STUDENT)
    assert ask(engine).finish == "context"
    server.weigh = weigh
    assert ask(engine).finish == "stop" and len(server.probes) == 4


def test_a_student_alone_on_a_server_has_nothing_to_be_compared_with(server: FakeServer) -> None:
    server.serve_models(NAME)
    assert f"which model? it serves {NAME}; give engine.server.model its name" in fault_of(server, STUDENT)
    text = fault_of(server, STUDENT, model="tiny")
    assert (
        f"does not serve 'tiny'; its models: {NAME}. Give engine.server.model the right name of the base model" in text
    )


def test_adapters_in_the_list_are_not_taken_for_the_base(server: FakeServer) -> None:
    cards = [
        {"id": "tiny", "parent": None},
        {"id": NAME, "parent": "tiny"},
        {"id": "webshop_act_sft_s0", "parent": "tiny"},
    ]
    server.models = Say(200, json.dumps({"data": cards}))
    assert make(server).name == "server:tiny"
    assert ask(make(server, STUDENT)).finish == "stop"


NO_LISTS: dict[str, Say] = {
    "not found": Say(404, "no such route"),
    "not allowed": Say(405, "Method Not Allowed"),
    "not implemented": Say(501, "Not Implemented"),
    "data null": Say(200, '{"object": "list", "data": null}'),
    "null": Say(200, "null"),
    "a page": Say(200, "<html>welcome</html>"),
    "bare list": Say(200, json.dumps([{"id": "tiny"}, {"id": NAME}])),
    "bare names": Say(200, json.dumps(["tiny", NAME])),
    "names below models": Say(200, json.dumps({"data": [{"id": "models/tiny"}, {"id": f"models/{NAME}"}]})),
    "odd cards": Say(200, json.dumps({"data": [{"name": "x"}, None, {"id": "tiny"}, {"id": NAME, "owner": {}}]})),
}


@pytest.mark.parametrize("models", NO_LISTS.values(), ids=NO_LISTS)
def test_the_name_in_the_settings_counts_whatever_list_a_server_gives(server: FakeServer, models: Say) -> None:
    server.models = models
    assert ask(make(server, model="tiny")).finish == "stop"
    assert ask(make(server, STUDENT, model="tiny")).finish == "stop"
    assert {body["model"] for body in server.bodies} == {"tiny", NAME}


def places(*tokens: tuple[str, float]) -> Sample:
    return Sample("", [(token, {token: value, "rare": -5.0}) for token, value in tokens])


def test_log_probabilities_tell_student_and_base_apart_beyond_the_noise() -> None:
    base, again = places(("a", -1.0), ("b", -0.2)), places(("a", -1.02), ("b", -0.2))
    assert told_apart(base, again, places(("a", -1.0), ("b", -0.4)))
    assert told_apart(base, again, places(("c", -0.1)))
    assert not told_apart(base, again, places(("a", -1.04), ("b", -0.2)))
    assert not told_apart(base, again, again)
    assert told_apart(base, base, Sample("", [("z", {"z": -0.1})])), "no token is likely for both"
    alone = Sample("", [("a", {"a": -0.69})])
    assert not told_apart(alone, alone, Sample("", [("b", {"b": -0.69})])), "a tie that rounding decides"


def test_what_comes_after_another_token_shows_nothing() -> None:
    tie = {"a": -0.69, "b": -0.69}
    base, swapped = Sample("", [("a", tie), ("x", {"x": -0.1})]), Sample("", [("b", tie), ("y", {"y": -3.0})])
    assert not told_apart(base, base, swapped)


def test_texts_tell_apart_only_where_the_base_is_steady() -> None:
    assert told_apart(Sample("a"), Sample("a"), Sample("b"))
    assert not told_apart(Sample("a"), Sample("b"), Sample("c"))
    assert not told_apart(Sample("a"), Sample("a"), Sample("a"))


def test_a_student_that_vanishes_before_the_proof_is_named(server: FakeServer) -> None:
    engine = make(server, STUDENT)
    server.weigh = lambda model: Say(404, "unloaded") if model == NAME else weighed("a", -1.0)
    session = engine.open(0)
    server.serve_models("tiny")
    with pytest.raises(EngineFault, match=rf"does not serve '{NAME}'; its models: tiny\..*unloaded"):
        engine.submit(session, [Message("user", "Hi.")])


def test_a_probe_that_fails_is_a_fault(server: FakeServer) -> None:
    server.weigh = lambda model: Say(500, "dead")
    assert "HTTP 500 dead" in fault_of(server, STUDENT)
