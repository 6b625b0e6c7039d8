"""Episodes: all of them, once each, in order, whatever breaks on the way.

Run as a script (`python tests/test_runner.py FOLDER TASKS SECONDS`), it plays made-up episodes with a journal in FOLDER, for the
test that kills it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from stages.agents.react import React
from stages.engines.base import Reply
from stages.envs.base import EnvironmentFault, Observation, Task
from stages.hinting.retrieval import Retriever
from stages.records import SCHEMA_VERSION, BankEntry, Episode, Message
from stages.runner.episodes import Play, play_panel
from stages.runner.journal import Journal, JournalError, identity_key

PLAY = Play(system="base", seed=3, panel_sha256="f" * 64, model="m", max_turns=6, max_repeats=3)
AGENT = React()
IDENTITY: dict[str, Any] = {"play": vars(PLAY), "k": 3}
NO_HINTS = Retriever("", [], 0, 0)


def count(text: str) -> int:
    return len(text.split())


def note(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(f"{line}\n")


class FakeEngine:
    """Answers the newest submission first, one a poll. `answer` makes a reply of the conversation so far."""

    name = "fake"

    def __init__(self, answer: Callable[[Sequence[Message]], str], slots: int = 3, window: int = 10**6) -> None:
        self.answer, self.slots, self.window = answer, slots, window
        self.open_sessions: set[int] = set()
        self.opened = 0
        self.most = 0
        self.waiting: list[tuple[int, list[Message]]] = []
        self.prompts: list[list[Message]] = []
        self.seeds: list[int] = []

    def open(self, seed: int) -> int:
        self.opened += 1
        self.seeds.append(seed)
        self.open_sessions.add(self.opened)
        self.most = max(self.most, len(self.open_sessions))
        assert len(self.open_sessions) <= self.slots
        return self.opened

    def submit(self, session: int, messages: Sequence[Message]) -> None:
        assert session in self.open_sessions
        self.waiting.append((session, list(messages)))
        self.prompts.append(list(messages))

    def poll(self) -> list[Reply]:
        session, messages = self.waiting.pop()
        prompt = sum(count(m.content) for m in messages)
        if prompt > self.window:
            return [Reply(session, "", "context", prompt, 0, 0)]
        text = self.answer(messages)
        return [Reply(session, text, "stop", prompt, count(messages[-1].content), count(text))]

    def close(self, session: int) -> None:
        self.open_sessions.remove(session)


class Ladder:
    """A task of `spec["steps"]` steps: `up` climbs one, anything else is refused. Faults come as the spec says: `reset_faults`
    or `step_faults` times in all, counted over all environments in `broken`. `top` is a file that gets a line at every success."""

    def __init__(
        self, broken: Counter[str], log: Callable[[str], None], seconds: float = 0.0, top: Path | None = None
    ) -> None:
        self.broken, self.log, self.seconds, self.top = broken, log, seconds, top
        self.faulty = False

    def _break(self, what: str) -> None:
        if self.broken[self.task.task_id] < self.task.spec.get(what, 0):
            self.broken[self.task.task_id] += 1
            self.faulty = True
            raise EnvironmentFault(f"{self.task.task_id}: {what}")

    def reset(self, task: Task) -> Observation:
        assert not self.faulty, "a broken environment was used again"
        self.task, self.height = task, 0
        self.log(task.task_id)
        self._break("reset_faults")
        return self._show(f"A ladder. Your task is to: {task.goal}", True)

    def step(self, action: str) -> Observation:
        time.sleep(self.seconds)
        if self.height == 1:
            self._break("step_faults")
        valid = action == "up"
        self.height += valid
        return self._show(f"You stand on rung {self.height}." if valid else "Nothing happens.", valid)

    def _show(self, text: str, valid: bool) -> Observation:
        done = self.height == self.task.spec["steps"]
        if done and self.top:
            note(self.top, self.task.task_id)
        return Observation(
            text, (f"up from {self.height}", "look"), self.task.spec.get("reward", 1.0) * done, done, valid
        )


class World:
    """What a run is made of: environments that write down every reset, and how many of them there are."""

    def __init__(self) -> None:
        self.resets: list[str] = []
        self.broken: Counter[str] = Counter()
        self.made = 0

    def make(self) -> Ladder:
        self.made += 1
        return Ladder(self.broken, self.resets.append)


def task(number: int, steps: int = 2, **spec: Any) -> Task:
    category = "put" if number % 2 else "heat"
    return Task(f"t{number}", "alfworld", "train", category, f"climb {steps}", {"steps": steps, **spec})


def up(messages: Sequence[Message]) -> str:
    return AGENT.render(f"After {len(messages)} messages, I climb.", "up")


def play(
    folder: Path,
    tasks: Sequence[Task],
    world: World,
    engine: FakeEngine,
    retriever: Retriever = NO_HINTS,
    identity: dict[str, Any] = IDENTITY,
    settings: Play = PLAY,
) -> list[Episode]:
    with Journal(folder, identity) as journal:
        return play_panel(tasks, settings, AGENT, engine, world.make, retriever, journal)


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
    start = AGENT.prompt("alfworld", episode.opening, ()).messages()
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
        def retrieve(self, task_id: str, category: str) -> Any:
            return dataclasses.replace(super().retrieve(task_id, category), retrieve_tokens=7)

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


def test_a_prompt_that_outgrows_the_window_ends_an_episode(tmp_path: Path) -> None:
    engine = FakeEngine(up, window=45)
    [episode] = play(tmp_path, [task(1, steps=6)], World(), engine)
    assert (episode.stop, episode.success, episode.machine_failure) == ("context", False, "")
    assert 0 < episode.steps == len(episode.turns) < 6
    assert not engine.open_sessions


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


def test_a_second_run_plays_only_what_is_missing(tmp_path: Path) -> None:
    tasks = [task(n) for n in range(6)]
    fresh = play(tmp_path / "whole", tasks, World(), FakeEngine(up))

    class Outage(Exception):
        pass

    def fails(messages: Sequence[Message]) -> str:
        if engine.opened == 5:
            raise Outage
        return up(messages)

    engine = FakeEngine(fails, slots=2)
    with pytest.raises(Outage):
        play(tmp_path / "resumed", tasks, World(), engine)
    world = World()
    episodes = play(tmp_path / "resumed", tasks, world, FakeEngine(up))
    assert 0 < len(world.resets) < len(tasks)
    assert episodes == fresh
    idle = World()
    assert play(tmp_path / "resumed", tasks, idle, FakeEngine(up)) == fresh
    assert idle.resets == [] and idle.made == 0


def journal_file(folder: Path) -> Path:
    return folder / f"{identity_key(IDENTITY)}.jsonl"


@pytest.mark.parametrize("damage", ["torn", "torn at its very end", "no episode", "zeros"])
def test_a_torn_last_line_is_dropped(tmp_path: Path, damage: str) -> None:
    tasks = [task(n) for n in range(4)]
    fresh = play(tmp_path, tasks, World(), FakeEngine(up, slots=1))
    path = journal_file(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    last = {
        "torn": lines[-1][: len(lines[-1]) // 2],
        "torn at its very end": lines[-1][:-1],
        "no episode": b'{"task_id": "t3"}\n',
        "zeros": bytes(len(lines[-1])),  # what a file system may leave after a power cut
    }[damage]
    path.write_bytes(b"".join(lines[:-1]) + last)
    world = World()
    assert play(tmp_path, tasks, world, FakeEngine(up)) == fresh
    assert world.resets == ["t3"]
    assert path.read_bytes() == b"".join(lines)


@pytest.mark.parametrize("change", [{"k": 4}, {"play": {**vars(PLAY), "model": "other"}}, {"bank": []}])
def test_other_settings_never_meet_old_episodes(tmp_path: Path, change: dict[str, Any]) -> None:
    play(tmp_path, [task(1)], World(), FakeEngine(up))
    world = World()
    play(tmp_path, [task(1)], world, FakeEngine(up), identity={**IDENTITY, **change})
    assert world.resets == ["t1"]


def test_the_order_of_settings_does_not_matter() -> None:
    assert identity_key({"a": 1, "b": {"c": 2, "d": 3}}) == identity_key({"b": {"d": 3, "c": 2}, "a": 1})


def test_an_episodes_draws_do_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    tasks = [task(n) for n in range(4)]
    alone, together = FakeEngine(up, slots=1), FakeEngine(up, slots=4)
    play(tmp_path / "a", tasks, World(), alone)
    play(tmp_path / "b", tasks[::-1], World(), together)
    assert alone.seeds == together.seeds[::-1]
    other = FakeEngine(up)
    play(tmp_path / "c", tasks, World(), other, settings=dataclasses.replace(PLAY, seed=4))
    assert not set(other.seeds) & set(alone.seeds)


def test_a_discarded_journal_is_gone(tmp_path: Path) -> None:
    play(tmp_path, [task(1)], World(), FakeEngine(up))
    with Journal(tmp_path, IDENTITY) as journal:
        assert set(journal.finished) == {"t1"}
        journal.discard()
    with Journal(tmp_path, IDENTITY) as journal:
        assert journal.finished == {}


def start_child(folder: Path, tasks: int, seconds: float) -> subprocess.Popen[bytes]:
    root = Path(__file__).parent.parent
    return subprocess.Popen(
        [sys.executable, __file__, str(folder), str(tasks), str(seconds)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def finished(folder: Path) -> list[str]:
    path = journal_file(folder)
    whole = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line)["task_id"] for line in whole if line.endswith(b"\n")]


def wait_for(child: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        assert child.poll() is None, "the child ended before its time"
        time.sleep(0.01)
    pytest.fail("the child did not get far enough in a minute")


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    child = start_child(tmp_path, tasks=100, seconds=0.05)
    try:
        wait_for(child, lambda: bool(finished(tmp_path)))
        with pytest.raises(JournalError, match="another process is playing these episodes"):
            play(tmp_path, [task(1)], World(), FakeEngine(up))
        before = finished(tmp_path)
        play(tmp_path, [task(1)], World(), FakeEngine(up), identity={"other": 1})
        wait_for(child, lambda: len(finished(tmp_path)) > len(before))
    finally:
        child.kill()
        child.wait()


def test_a_killed_run_goes_on_without_playing_a_finished_episode_again(tmp_path: Path) -> None:
    tasks = 40
    child = start_child(tmp_path, tasks, seconds=0.01)
    wait_for(child, lambda: len(finished(tmp_path)) >= 5)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    done = finished(tmp_path)
    assert 5 <= len(done) < tasks, "the kill must come midway"
    won = (tmp_path / "tops").read_text().split()
    assert set(done) <= set(won) and len(won) <= len(done) + 1, "an episode must be journalled before the next one ends"
    assert start_child(tmp_path, tasks, seconds=0.0).wait() == 0
    assert sorted(finished(tmp_path)) == sorted(f"t{n}" for n in range(tasks))
    resets = Counter((tmp_path / "resets").read_text().split())
    assert {resets[name] for name in done} == {1}
    assert set(resets) == {f"t{n}" for n in range(tasks)}
    assert sum(resets.values()) <= tasks + FakeEngine(up).slots, "only what was under way may be begun again"


def _child(folder: Path, tasks: int, seconds: float) -> None:
    with Journal(folder, IDENTITY) as journal:
        made = [task(n) for n in range(tasks)]

        def make() -> Ladder:
            return Ladder(Counter(), lambda name: note(folder / "resets", name), seconds, folder / "tops")

        play_panel(made, PLAY, AGENT, FakeEngine(up), make, NO_HINTS, journal)


if __name__ == "__main__":
    _child(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
