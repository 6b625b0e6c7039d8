"""Episodes: all of them, once each, in order, whatever breaks on the way."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ladder import AGENT, PLAY, FakeEngine, World, count, play, task, up

from stages.core.records import SCHEMA_VERSION, BankEntry, Message
from stages.engines.base import Reply
from stages.retrieval.retriever import Retriever, Start


def test_every_task_is_played_once_and_comes_out_in_order(tmp_path: Path) -> None:
    tasks = [task(n, steps=1 + n * 7 % 5) for n in range(12)]
    world, engine = World(), FakeEngine(up)
    episodes = play(tmp_path, tasks, world, engine)
    assert [e.task_id for e in episodes] == [t.task_id for t in tasks]
    assert Counter(world.resets) == dict.fromkeys((t.task_id for t in tasks), 1)
    assert engine.most == engine.slots == world.made
    assert not engine.open_sessions
    assert all(e.success and e.stop == "done" and e.reward == 1.0 for e in episodes)
    assert [e.steps for e in episodes] == [t.spec["steps"] for t in tasks]
    assert len({e.episode_id for e in episodes}) == len(tasks)


def test_a_record_says_what_was_played(tmp_path: Path) -> None:
    [episode] = play(tmp_path, [task(1)], World(), FakeEngine(up))
    assert (episode.env, episode.agent, episode.system, episode.seed) == ("alfworld", "react", "base", 3)
    assert (episode.panel, episode.panel_sha256, episode.category, episode.goal) == (
        "train",
        "f" * 64,
        "put",
        "climb 2",
    )
    assert (episode.model, episode.engine, episode.machine_failure) == ("m", "fake", "")
    assert episode.opening == "A ladder. Your task is to: climb 2"
    first, second = episode.turns
    assert (first.thought, first.action, first.valid, first.finish) == (
        "After 2 messages, I climb.",
        "up",
        True,
        "stop",
    )
    assert (first.admissible, first.observation) == (["up from 0", "look"], "You stand on rung 1.")
    assert (second.admissible, second.observation) == (["up from 1", "look"], "You stand on rung 2.")


def test_token_counts_are_sums_over_the_turns(tmp_path: Path) -> None:
    engine = FakeEngine(up)
    [episode] = play(tmp_path, [task(1, steps=4)], World(), engine)
    assert episode.prompt_tokens == sum(count(m.content) for prompt in engine.prompts for m in prompt)
    assert episode.prompt_tokens == sum(t.prompt_tokens for t in episode.turns)
    assert episode.reply_tokens == 4 * count(up([]))
    computed = sum(count(prompt[-1].content) for prompt in engine.prompts)
    assert episode.computed_tokens == computed + episode.reply_tokens
    assert episode.retrieve_tokens == 0


def test_a_conversation_grows_by_reply_and_observation(tmp_path: Path) -> None:
    engine = FakeEngine(up)
    [episode] = play(tmp_path, [task(1)], World(), engine)
    start = AGENT.prompt(episode.opening, ()).messages()
    assert engine.prompts[0] == start
    assert engine.prompts[1] == [*start, Message("assistant", up(start)), Message("user", "You stand on rung 1.")]


def test_hints_are_shown_once_at_the_start_and_recorded(tmp_path: Path) -> None:
    texts = {"put": ["Climb.", "Go up."], "heat": ["Look."]}
    bank = [
        BankEntry(SCHEMA_VERSION, f"{category}{rank}", "alfworld", "react", category, text, 1, rank, ["h"], ["e"])
        for category, entries in texts.items()
        for rank, text in enumerate(entries, 1)
    ]

    class Costly(Retriever):
        def retrieve(self, start: Start) -> Any:
            return dataclasses.replace(super().retrieve(start), retrieve_tokens=7)

    engine = FakeEngine(up, slots=1)
    episodes = play(tmp_path, [task(0), task(1)], World(), engine, Costly("rag", bank, 3, 0))
    assert [(e.hint_ids, e.hints, e.retrieve_tokens) for e in episodes] == [
        (["heat1"], ["Look."], 7),
        (["put1", "put2"], ["Climb.", "Go up."], 7),
    ]
    for episode, prompts in zip(episodes, (engine.prompts[:2], engine.prompts[2:]), strict=True):
        for prompt in prompts:
            text = "\n".join(m.content for m in prompt)
            assert [text.count(hint) for hint in episode.hints] == [1] * len(episode.hints)
            assert all(hint in prompt[0].content for hint in episode.hints)


def test_the_same_reply_too_often_ends_an_episode(tmp_path: Path) -> None:
    engine = FakeEngine(lambda messages: "Action: look")
    [episode] = play(tmp_path, [task(1)], World(), engine)
    assert (episode.stop, episode.steps, episode.refused, episode.success) == ("repeated", 3, 3, False)


def test_replies_that_repeat_with_others_between_do_not_end_it(tmp_path: Path) -> None:
    engine = FakeEngine(lambda messages: f"Action: {'look' if len(messages) % 4 else 'sing'}")
    [episode] = play(tmp_path, [task(1)], World(), engine)
    assert (episode.stop, episode.steps, episode.refused) == ("turn_limit", 6, 6)


def test_the_turn_limit_ends_an_episode(tmp_path: Path) -> None:
    settings = dataclasses.replace(PLAY, max_turns=4)
    long, just = play(tmp_path, [task(1, steps=5), task(2, steps=4)], World(), FakeEngine(up), settings=settings)
    assert (long.stop, long.steps, long.success, long.reward) == ("turn_limit", 4, False, 0.0)
    assert (just.stop, just.steps, just.success) == ("done", 4, True)


def test_a_reply_without_action_is_a_refused_turn(tmp_path: Path) -> None:
    engine = FakeEngine(lambda messages: up([]) if len(messages) > 2 else "I would rather not.")
    [episode] = play(tmp_path, [task(1)], World(), engine)
    first = episode.turns[0]
    assert (first.action, first.thought, first.valid, first.observation) == (
        "",
        "I would rather not.",
        False,
        "Nothing happens.",
    )
    assert (episode.refused, episode.steps, episode.success) == (1, 3, True)


def test_a_poor_end_is_no_success(tmp_path: Path) -> None:
    [episode] = play(tmp_path, [task(1, reward=0.5)], World(), FakeEngine(up))
    assert (episode.stop, episode.success, episode.reward) == ("done", False, 0.5)


@pytest.mark.parametrize("fault", ["reset_faults", "step_faults"])
def test_a_broken_environment_is_tried_again_in_a_fresh_one(tmp_path: Path, fault: str) -> None:
    world, engine = World(), FakeEngine(up)
    episodes = play(tmp_path, [task(0), task(1, **{fault: 1}), task(2)], world, engine)
    assert all(e.success for e in episodes)
    assert Counter(world.resets) == {"t0": 1, "t1": 2, "t2": 1}
    assert not engine.open_sessions


@pytest.mark.parametrize("fault", ["reset_faults", "step_faults"])
def test_an_environment_that_stays_broken_is_the_machines_failure(tmp_path: Path, fault: str) -> None:
    tasks = [task(0), task(1, **{fault: 2}), task(2)]
    world, engine = World(), FakeEngine(up)
    episodes = play(tmp_path, tasks, world, engine)
    broken = episodes[1]
    assert (broken.stop, broken.success, broken.turns, broken.machine_failure) == ("machine", False, [], f"t1: {fault}")
    assert (broken.prompt_tokens, broken.reply_tokens, broken.computed_tokens) == (0, 0, 0)
    assert [e.success for e in episodes] == [True, False, True]
    assert not engine.open_sessions

    again = World()
    again.broken = world.broken
    mended = play(tmp_path, tasks, again, FakeEngine(up))
    assert again.resets == ["t1"], "what the machine broke is played again, and nothing else"
    assert all(e.success for e in mended)


class Failing(FakeEngine):
    """The request of a conversation's second turn fails, `times` times for a task that climbs `steps`."""

    def __init__(self, steps: int, times: int) -> None:
        super().__init__(up)
        self.goal, self.times = f"climb {steps}", times

    def poll(self) -> list[Reply]:
        session, messages = self.waiting[-1]
        if self.times and len(messages) > 2 and any(self.goal in message.content for message in messages):
            self.waiting.pop()
            self.times -= 1
            return [Reply(session, "", "fault", 0, 0, 0, "no answer")]
        return super().poll()


def test_a_session_that_fails_is_played_again_from_the_start(tmp_path: Path) -> None:
    world, engine = World(), Failing(steps=3, times=1)
    episodes = play(tmp_path, [task(0), task(1, steps=3), task(2)], world, engine)
    assert all(e.success and not e.machine_failure for e in episodes)
    assert [e.steps for e in episodes] == [2, 3, 2]
    assert Counter(world.resets) == {"t0": 1, "t1": 2, "t2": 1}
    assert world.made == 3, "the environment is not to blame and is used again"
    assert not engine.open_sessions


def test_a_session_that_fails_again_is_the_machines_failure(tmp_path: Path) -> None:
    tasks = [task(0), task(1, steps=3), task(2)]
    engine = Failing(steps=3, times=2)
    first, broken, last = play(tmp_path, tasks, World(), engine)
    assert first.success and last.success and not engine.open_sessions
    assert (broken.stop, broken.success, broken.turns, broken.machine_failure) == ("machine", False, [], "no answer")
    again = World()
    assert all(e.success for e in play(tmp_path, tasks, again, FakeEngine(up)))
    assert again.resets == ["t1"]


def test_an_episodes_draws_do_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    tasks = [task(n) for n in range(4)]
    alone, together = FakeEngine(up, slots=1), FakeEngine(up, slots=4)
    play(tmp_path / "a", tasks, World(), alone)
    play(tmp_path / "b", tasks[::-1], World(), together)
    assert alone.seeds == together.seeds[::-1]
    other = FakeEngine(up)
    play(tmp_path / "c", tasks, World(), other, settings=dataclasses.replace(PLAY, seed=4))
    assert not set(other.seeds) & set(alone.seeds)
