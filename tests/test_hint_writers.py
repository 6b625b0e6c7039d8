"""Hints written by a model: how its answers are read, what they cost, and that none is paid for twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_server import HANG, FakeServer, Say, chat, serving, words
from household import Household, play
from structure import ROOT

import stages.hints as stage
from stages.core import files
from stages.core.params import Settings, load
from stages.core.records import Episode
from stages.core.sections import Prices
from stages.engines.base import EngineFault, Reply
from stages.envs.base import Task
from stages.envs.panel import write_panels
from stages.hinting import answers, asking, prompting
from stages.hinting.alfworld import RULES
from stages.hinting.base import Failure, Written
from stages.hinting.writers import llm, rules
from stages.hinting.writers import self as own

HOME = Household({"table 1": ["mug 1"], "box 1": ["egg 1"], "shelf 1": []}, shut=frozenset({"box 1"}))
FETCH = ["go to box 1", "open box 1", "take egg 1 from box 1"]
WON = play(HOME, [*FETCH, "go to shelf 1", "move egg 1 to shelf 1"])
LOST: list[Episode] = [play(HOME, actions) for actions in (FETCH, ["look"], ["fly", "fly"], ["go to table 1"])]
FAILURES = [Failure(episode, None, WON) for episode in LOST]
GOOD = "As soon as {object} is listed, take it."


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server that gives one good hint, and an empty store of answers."""
    monkeypatch.setattr(asking, "ANSWERS", tmp_path / "answers")
    with serving() as running:
        running.answer = always(hinting(GOOD))
        yield running


def hinting(*texts: str) -> str:
    return json.dumps({"hints": texts})


def always(text: str) -> Callable[[dict[str, Any]], Say]:
    """The same answer to all; tokens are words."""
    return lambda body: chat(text, prompt=sum(words(m["content"]) for m in body["messages"]), reply=words(text))


def study_with(server: FakeServer, **changes: Any) -> Settings:
    """The committed settings, with the model at the server as the writer of hints."""
    values = {"url": server.url, "key_variable": "TEST_KEY", "timeout": 5.0, "retries": 1, "slots": 3, **changes}
    study = load(ROOT / "params.yaml")
    changed = study.hints.llm.model_copy(update=values)
    return study.model_copy(update={"hints": study.hints.model_copy(update={"writer": "llm", "llm": changed})})


def written(server: FakeServer, failures: Sequence[Failure] = FAILURES, **changes: Any) -> Written:
    return llm.write(failures, RULES, study_with(server, **changes))


# How an answer is read


@pytest.mark.parametrize(
    "text",
    [
        hinting("a", "b"),
        'Here they are:\n```json\n{"hints": ["a", "b"]}\n```\nGood luck!',
        '{"hints": [{"env_type": "put", "text": "a"}, {"text": "b"}]}',
        '<think>{"hints": ["no"]}</think>{"hints": [" a ", "b\\n"]}',
        '{"note": 1} {"hints": ["a", "b"]}',
    ],
)
def test_an_answer_is_read_whatever_stands_around_it(text: str) -> None:
    assert answers.read_hints(Reply(0, text, "stop", 1, 1, 1)) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "finish", "said"),
    [
        ("Look for the egg first.", "stop", "no JSON object"),
        ('{"hints": ["a", ', "stop", "no JSON object"),
        ('{"hints": ["a", ', "length", "cut at the token limit"),
        ('{"tips": ["a"]}', "stop", "no list `hints`"),
        ('{"hints": [["a"]]}', "stop", "and no text"),
        ("", "stop", "no JSON object"),
        ('{"a":' * 5000, "stop", "no JSON object"),
    ],
)
def test_an_answer_without_hints_says_why(text: str, finish: str, said: str) -> None:
    with pytest.raises(answers.Unreadable, match=said):
        answers.read_hints(Reply(0, text, finish, 1, 1, 1))


# The writer against a server


def test_every_failure_is_asked_about_at_once_and_paid_for_once(server: FakeServer) -> None:
    together = threading.Barrier(3, timeout=5)

    def answer(body: dict[str, Any]) -> Say:
        if len(server.bodies) <= 3:
            together.wait()  # which only three requests at once get through
        return always(hinting(GOOD))(body)

    server.answer = answer
    first = written(server)
    assert [h.text for h in first.hints] == [GOOD] * 4 and [h.episode_id for h in first.hints] == [
        e.episode_id for e in LOST
    ]
    assert server.most == 3 and len(server.bodies) == 4
    assert all(body["response_format"]["json_schema"]["schema"]["required"] == ["hints"] for body in server.bodies)
    assert {(a.outcome, a.calls, a.model, a.prompt) for a in first.answers} == {
        ("hints", 1, "tiny", prompting.version())
    }
    assert all(a.prompt_tokens > 100 and a.reply_tokens == words(hinting(GOOD)) for a in first.answers)
    assert written(server) == first and len(server.bodies) == 4


def test_the_base_models_answers_are_of_that_base_and_of_the_code_that_ran_it(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "CODE", tmp_path / "stages")
    edited = [tmp_path / "stages" / part for part in ("engines/cpu.py", "engines/layers.cpp", "models/chat.py")]
    identity = {"source": "tiny", "students": ["first_round"], "weights_sha256": "ab" * 32}
    for path in (*edited, own.BASE / "identity.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(identity))
    study = study_with(server)
    there = study.engine.server.model_copy(update={"url": server.url, "retries": 0})
    study = study.model_copy(update={"engine": study.engine.model_copy(update={"kind": "server", "server": there})})

    def asked() -> tuple[str, int]:
        [answer] = own.write(FAILURES[:1], RULES, study).answers
        return answer.model, len(server.bodies)

    assert asked() == asked() == ("tiny + first_round@abababababab (server:tiny)", 1)
    for number, path in enumerate(edited, 2):
        path.write_text("mended")
        assert asked()[1] == asked()[1] == number
    (own.BASE / "identity.json").write_text(json.dumps({**identity, "template": {"enable_thinking": False}}))
    assert asked() == ("tiny + first_round (enable_thinking=false)@abababababab (server:tiny)", 5)


def test_an_answer_to_a_prompt_that_no_longer_fits_is_not_taken_from_the_store(server: FakeServer) -> None:
    long = [Failure(play(HOME, ["look", "go to table 1"] * 20))]
    [whole] = written(server, long).answers
    assert whole.elided == 0 and len(server.bodies) == 1
    most = study_with(server).hints.llm.max_tokens + whole.prompt_tokens
    assert written(server, long, context=most).answers == [whole] and len(server.bodies) == 1
    [cut] = written(server, long, context=most - 1).answers
    assert cut.elided > 0 and cut.prompt_tokens < whole.prompt_tokens and len(server.bodies) == 3


def test_money_is_counted_where_prices_are_given(server: FakeServer) -> None:
    [answer] = written(server, FAILURES[:1], prices=Prices(prompt=2.0, reply=10.0)).answers
    assert answer.dollars == pytest.approx((2 * answer.prompt_tokens + 10 * answer.reply_tokens) / 1e6)


def test_another_model_or_setting_is_asked_anew(server: FakeServer) -> None:
    written(server)
    written(server, max_tokens=500)
    server.serve_models("other")
    written(server)
    assert len(server.bodies) == 12


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I cannot help with that.", "unreadable"),
        ('{"hints": ["Take', "unreadable"),
        ("", "unreadable"),
        ('{"hints": []}', "none"),
    ],
)
def test_an_answer_that_stays_unreadable_is_rejected_with_its_reason(
    server: FakeServer, text: str, reason: str
) -> None:
    server.answer = always(text)
    found = written(server, FAILURES[:1])
    assert found.hints == [] and [(r.reason, r.text) for r in found.rejected] == [(reason, text)]
    assert len(server.bodies) == (1 if reason == "none" else 2)
    [answer] = found.answers
    assert (answer.outcome, answer.calls) == (reason, len(server.bodies)) and answer.prompt_tokens > 100


def test_an_unreadable_answer_is_mended_once_by_asking(server: FakeServer) -> None:
    server.answer = lambda body: always("Take it." if len(body["messages"]) == 2 else hinting(GOOD))(body)
    found = written(server, FAILURES[:1])
    assert [h.text for h in found.hints] == [GOOD] and found.rejected == []
    *_, said, asked = server.bodies[-1]["messages"]
    assert said == {"role": "assistant", "content": "Take it."} and "no JSON object" in asked["content"]
    assert found.answers[0].calls == 2


@pytest.mark.parametrize(
    ("refusal", "left"),
    [
        ("'maxLength' is not permitted in json_schema", "json_schema"),
        ("response_format of type json_schema is not supported", "json_object"),
        ("response_format is unknown", None),
    ],
)
def test_a_server_that_refuses_a_schema_is_asked_for_less_once(
    server: FakeServer, refusal: str, left: str | None
) -> None:
    def answer(body: dict[str, Any]) -> Say:
        form = body.get("response_format", {})
        bounded = "maxLength" in json.dumps(form)
        takes = {"json_schema": not bounded, "json_object": form.get("type") == "json_object", None: not form}[left]
        return always(hinting(GOOD))(body) if takes else Say(400, refusal)

    server.answer = answer
    assert len(written(server, slots=1).hints) == 4
    kinds = [body.get("response_format", {}).get("type") for body in server.bodies]
    assert kinds[-4:] == [left] * 4 and len(kinds) <= 4 + 3


def test_a_trace_that_does_not_fit_is_shown_without_its_middle(server: FakeServer) -> None:
    long = play(HOME, ["look", "go to table 1"] * 20)

    def answer(body: dict[str, Any]) -> Say:
        room = words(body["messages"][1]["content"]) < 300
        return always(hinting(GOOD))(body) if room else Say(400, "this model's maximum context length is 300 tokens")

    server.answer = answer
    [answer_] = written(server, [Failure(long)]).answers
    assert answer_.outcome == "hints" and 0 < answer_.elided <= 38
    assert f"({answer_.elided} turns are left out here.)" in server.bodies[-1]["messages"][1]["content"]

    server.answer = lambda body: Say(400, "this model's maximum context length is 30 tokens")
    with pytest.raises(answers.AnswerError, match=rf"hints\.llm\.context: episode {LOST[0].episode_id} does not fit"):
        written(server, FAILURES[:1])


@pytest.mark.parametrize("said", [Say(429, "later", (("Retry-After", "0"),)), Say(500, "oh"), Say(200, "{")])
def test_a_busy_or_broken_server_is_asked_again(server: FakeServer, said: Say) -> None:
    server.script = [said]
    found = written(server, FAILURES[:1])
    assert [h.text for h in found.hints] == [GOOD] and found.answers[0].calls == 1 and len(server.bodies) == 2


@pytest.mark.parametrize("said", [Say(500, "oh"), HANG])
def test_a_failure_of_the_machine_stops_the_stage_and_keeps_what_was_answered(
    server: FakeServer, said: Say | str
) -> None:
    broken = LOST[3].turns[0].action

    def answer(body: dict[str, Any]) -> Say | str:
        return (
            said
            if f"> {broken}" in body["messages"][1]["content"].split("comparison")[0]
            else always(hinting(GOOD))(body)
        )

    server.answer = answer
    with pytest.raises(EngineFault, match="run again to go on from there"):
        written(server, retries=0, timeout=1.0)
    asked = len(server.bodies)
    server.answer = always(hinting(GOOD))
    assert len(written(server, retries=0).hints) == 4
    assert len(server.bodies) == asked + 1, "only what failed is asked again"


def test_a_failure_that_does_not_fit_stops_the_stage_and_keeps_what_was_answered(server: FakeServer) -> None:
    first, *others = [Failure(episode) for episode in (LOST[2], LOST[1], LOST[3])]
    together = threading.Barrier(3, timeout=5)

    def answer(body: dict[str, Any]) -> Say:
        together.wait()  # all are under way before any is answered
        if f"> {LOST[2].turns[0].action}" in body["messages"][1]["content"]:
            return Say(400, "this model's maximum context length is 30 tokens")
        time.sleep(0.3)  # so that these are answered last
        return always(hinting(GOOD))(body)

    server.answer = answer
    with pytest.raises(answers.AnswerError, match=r"hints\.llm\.context: .* run again to go on from there"):
        written(server, [first, *others], slots=3)
    server.answer = always(hinting(GOOD))
    assert len(written(server, [first, *others]).hints) == 3
    assert len(server.bodies) == 3 + 1, "only what did not fit is asked again"


WRITING = """
import sys
from pathlib import Path
from types import SimpleNamespace
from stages.hinting import asking
asking.ANSWERS = Path(sys.argv[2])
from test_hint_writers import written
written(SimpleNamespace(url=sys.argv[1]), slots=1, timeout=60.0)
"""


def test_after_a_kill_half_way_only_what_is_left_is_asked(server: FakeServer, tmp_path: Path) -> None:
    server.answer = lambda body: always(hinting(GOOD))(body) if len(server.bodies) <= 2 else HANG
    path = {"PYTHONPATH": ":".join(map(str, (ROOT, ROOT / "tests", ROOT / "benchmarks")))}
    command = [sys.executable, "-c", WRITING, server.url, str(tmp_path / "answers")]
    with subprocess.Popen(command, env=os.environ | path) as writing:
        while len(server.bodies) < 3:
            assert writing.poll() is None
            time.sleep(0.05)
        writing.kill()
    server.answer = always(hinting(GOOD))
    assert len(written(server).hints) == 4 and len(server.bodies) == 3 + 2


@pytest.mark.parametrize(
    ("changes", "served", "said"),
    [
        (
            {"model": "gpt"},
            ["tiny"],
            r"does not serve 'gpt'; its models: tiny\. Give hints\.llm\.model the right name, or hints\.llm\.url",
        ),
        ({}, ["tiny", "tall"], r"which model\? it serves tiny, tall; give hints\.llm\.model its name"),
        ({"url": "http://127.0.0.1:1/v1"}, ["tiny"], r"start it, or change hints\.llm\.url"),
    ],
)
def test_a_model_that_is_not_there_is_one_line(
    server: FakeServer, changes: dict[str, Any], served: list[str], said: str
) -> None:
    server.serve_models(*served)
    with pytest.raises(EngineFault, match=said) as caught:
        written(server, **changes)
    assert "\n" not in str(caught.value)


def test_a_key_that_is_wanted_is_named_and_never_shown(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answer = lambda body: Say(401, "no key")
    monkeypatch.delenv("TEST_KEY", raising=False)
    with pytest.raises(EngineFault, match="see the variable TEST_KEY; it is not set"):
        written(server)
    monkeypatch.setenv("TEST_KEY", "sk-secret")
    with pytest.raises(EngineFault, match="see the variable TEST_KEY; the key there is refused") as caught:
        written(server)
    assert "sk-secret" not in str(caught.value)


# Through the gate into the bank


def bank_of(study: Settings, failures: Sequence[Failure], panels: Path) -> tuple[stage.Tables, str]:
    return stage.learn(failures, [f.episode for f in failures], RULES, study, panels)


@pytest.fixture
def panels(tmp_path: Path) -> Path:
    spec = {"scene": 10, "task_type": "put", "object": "Lute", "receptacle": "Safe"}
    write_panels(
        tmp_path, "alfworld", "generated", {"test": [Task("t", "alfworld", "test", "put", "put a lute in safe", spec)]}
    )
    return tmp_path


def test_a_model_that_writes_what_the_rules_do_makes_the_rules_bank(server: FakeServer, panels: Path) -> None:
    study = study_with(server)
    by_prompt = {
        prompting.prompt(f, study.hints, 99)[1].content: [h.text for h in rules.found(f, RULES, study.hints)]
        for f in FAILURES
    }
    server.answer = lambda body: always(hinting(*by_prompt[body["messages"][1]["content"]]))(body)
    wanted, _ = bank_of(load(ROOT / "params.yaml"), FAILURES, panels)
    found, basis = bank_of(study, FAILURES, panels)
    assert {(e.category, e.text, e.count) for e in found.bank} == {(e.category, e.text, e.count) for e in wanted.bank}
    assert found.rejected == [] and len(found.bank) > 2
    assert basis == "its trace and a success of the same category"


def test_forty_hints_are_cut_to_as_many_as_a_failure_may_have(server: FakeServer, panels: Path) -> None:
    server.answer = always(
        hinting(*(f"Open {{receptacle}} {'very ' * n}slowly." for n in range(10)), *["x" * 3000] * 30)
    )
    found, _ = bank_of(study_with(server), FAILURES[:1], panels)
    assert len(found.hints) == 4
    assert {r.reason for r in found.rejected} == {"surplus", "long"} and len(found.rejected) == 36
    assert "rejected: long 30, surplus 6; 1 answers" in stage.summary([LOST[0]], found)


def test_one_hint_for_everything_is_one_entry_with_all_its_sources(server: FakeServer, panels: Path) -> None:
    found, _ = bank_of(study_with(server), FAILURES, panels)
    [entry] = found.bank
    assert (entry.text, entry.count, entry.episode_ids) == (GOOD, 4, sorted(e.episode_id for e in LOST))
