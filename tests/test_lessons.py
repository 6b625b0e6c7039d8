"""Lessons hold the agent's own words and nothing of a hint; each gate finds the fault it is there for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from household import Household, play, task_of
from tiny import make_tokenizer

import stages.lessons as stage
from stages import agents
from stages.core.params import Cell
from stages.core.records import Episode, Lesson, Message, Turn, read, write
from stages.curation import gates, leaks, making
from stages.curation.gates import Evidence, GateError, check
from stages.curation.lessons import Limits, build_lessons, conversation
from stages.envs.alfworld import ENVIRONMENT
from stages.envs.base import Task
from stages.envs.panel import load_panel, write_panels
from stages.envs.webshop import ENVIRONMENT as WEBSHOP
from stages.models.chat import Chat
from stages.models.conversation import IGNORED, Encoded

CELL = Cell("alfworld_react")
REACT = agents.get("react", "alfworld")
HOME = Household({"box 1": ["egg 1"], "shelf 1": []})
WIN = ["go to box 1", "take egg 1 from box 1", "go to shelf 1", "move egg 1 to shelf 1"]
HINT = "To zap {object}: take it, go to {zapper}, then 'zap {object} with {zapper}' at once."
LIMITS = Limits(max_refused=1, ngram=6, max_tokens=5000)
END = 0


def encode(messages: Sequence[Message]) -> list[Encoded]:
    """A token a character, and one that ends a reply."""
    ids: list[int] = []
    labels: list[int] = []
    for message in messages:
        mine = [ord(c) for c in message.content] + [END]
        ids += mine
        labels += mine if message.train else [IGNORED] * len(mine)
    return [Encoded(ids, labels)]


def decode(ids: Sequence[int]) -> str:
    return "".join(chr(i) for i in ids if i != END)


def hinted(actions: Sequence[str] = WIN, hint: str = HINT, **changes: Any) -> Episode:
    return play(HOME, actions, hints=[hint], hint_ids=["b1"], system="rag", **changes)


def saying(episode: Episode, reply: str) -> Episode:
    """The episode with another first reply."""
    first: Turn = replace(episode.turns[0], reply=reply)
    return replace(episode, turns=[first, *episode.turns[1:]])


def build(*episodes: Episode, limits: Limits = LIMITS) -> tuple[list[Lesson], dict[str, int]]:
    return build_lessons("distilled", episodes, REACT, encode, limits)


def test_an_episode_of_which_the_agent_saw_a_part_only_is_no_lesson() -> None:
    episode = hinted()
    last = replace(episode.turns[-1], elided=1)
    assert build(replace(episode, turns=[*episode.turns[:-1], last])) == ([], {"elided": 1})


def test_a_lesson_is_the_conversation_without_hints() -> None:
    episode = hinted()
    (lesson,), dropped = build(episode)
    system, opening, *turns = lesson.messages
    assert dropped == {}
    assert system == REACT.prompt(episode.opening, ()).messages()[0]
    assert opening == Message("user", episode.opening)
    assert [m.content for m in turns[::2]] == [turn.reply for turn in episode.turns]
    assert [m.content for m in turns[1::2]] == [turn.observation for turn in episode.turns[:-1]]
    assert all(m.train == (m.role == "assistant") for m in lesson.messages)
    assert (lesson.hint_ids, lesson.episode_id, lesson.arm) == (["b1"], episode.episode_id, "distilled")
    assert lesson.trained_tokens == sum(len(turn.reply) + 1 for turn in episode.turns) < lesson.tokens


def test_mistakes_stay_in_sight_and_are_not_trained() -> None:
    episode = play(HOME, ["fly", "", *WIN])
    episode = replace(
        episode, turns=[*episode.turns[:2], replace(episode.turns[2], finish="length"), *episode.turns[3:]]
    )
    replies = [m for m in conversation(episode, REACT) if m.role == "assistant"]
    assert [m.train for m in replies] == [False, False, False, True, True, True]


@pytest.mark.parametrize(
    ("episode", "reason"),
    [
        (play(HOME, WIN[:2]), "failure"),
        (play(HOME, WIN[:2], machine_failure="engine down"), "machine"),
        (play(HOME, ["fly", "fly", *WIN]), "refused"),
        (saying(hinted(), f"Think: {HINT.upper()}\nAction: go to box 1"), "quotes_hint"),
        (saying(hinted(), "Think: Take it, go to zapper 1, then zap egg 1.\nAction: go to box 1"), "quotes_hint"),
    ],
)
def test_what_is_dropped_and_why(episode: Episode, reason: str) -> None:
    assert build(episode) == ([], {reason: 1})


def test_long_and_untrained_lessons_are_dropped_whole() -> None:
    (lesson,), _ = build(hinted())
    assert build(hinted(), limits=replace(LIMITS, max_tokens=lesson.tokens))[0] == [lesson]
    assert build(hinted(), limits=replace(LIMITS, max_tokens=lesson.tokens - 1)) == ([], {"too_long": 1})
    cut = hinted()
    cut = replace(cut, turns=[replace(turn, finish="length") for turn in cut.turns])
    assert build(cut) == ([], {"untrained": 1})


def test_one_refused_action_is_allowed() -> None:
    assert len(build(play(HOME, ["fly", *WIN]))[0]) == 1


def test_words_that_the_environment_showed_are_no_quotation() -> None:
    hint = "First take egg from box, then go to shelf."
    reply = "Think: I take egg 1 from box 1.\nAction: take egg 1 from box 1"
    assert leaks.overlap([reply], [hint], [], 4) == "take egg from box"
    assert leaks.overlap([reply], [hint], ["take egg 1 from box 1"], 4) is None
    assert (
        leaks.overlap(["Think: First take egg 1 from box 1."], [hint], ["take egg 1 from box 1"], 5)
        == "first take egg from box"
    )


def task(panel: str, **changes: Any) -> Task:
    return replace(task_of(HOME, task_id=f"{panel}-0", scene=2), panel=panel, **changes)


def evidence(episode: Episode, **changes: Any) -> Evidence:
    own = task_of(HOME)
    asks = ENVIRONMENT.asks
    given = Evidence({episode.episode_id: episode}, {own.task_id: own}, [task("test")], asks, encode, decode, 6, 5000)
    return replace(given, **changes)


def with_message(lesson: Lesson, index: int, **changes: Any) -> Lesson:
    """The lesson with one message changed; its counts follow."""
    messages = list(lesson.messages)
    messages[index] = replace(messages[index], **changes)
    return replace(lesson, messages=messages, tokens=len(encode(messages)[0].input_ids))


def sound() -> tuple[Lesson, Episode]:
    episode = hinted()
    return build(episode)[0][0], episode


def test_a_sound_lesson_passes_every_gate() -> None:
    lesson, episode = sound()
    assert check([lesson], evidence(episode)) == {gate.__name__: {"checked": 1, "failed": 0} for gate in gates.GATES}


def fails(lesson: Lesson, against: Evidence) -> list[str]:
    """The names of the gates that find a fault with the lesson."""
    with pytest.raises(GateError) as fault:
        check([lesson], against)
    assert lesson.lesson_id in str(fault.value)
    return [gate.__name__ for gate in gates.GATES if f"  {gate.__name__}: 1 of 1: " in str(fault.value)]


def test_gate_hint_text_in_the_system_message() -> None:
    lesson, episode = sound()
    leaky = with_message(lesson, 0, content=f"{lesson.messages[0].content}\nHints:\n- {HINT}")
    assert fails(leaky, evidence(episode)) == ["no_hint_text"]


def test_gate_hint_text_of_another_episode() -> None:
    lesson, episode = sound()
    other = replace(hinted(hint="Never fly."), episode_id="other")
    leaky = with_message(lesson, 2, content="Think: never  FLY.\nAction: go to box 1")
    both = {episode.episode_id: episode, "other": other}
    assert fails(leaky, evidence(episode, episodes=both)) == ["no_hint_text"]


def test_gate_hint_words_in_a_reply() -> None:
    lesson, episode = sound()
    leaky = with_message(lesson, 2, content="Think: take it, go to zapper 7, then zap it.\nAction: look")
    assert fails(leaky, evidence(episode)) == ["no_hint_ngrams"]
    elsewhere = with_message(lesson, 3, content="Take it, go to zapper 7, then zap it.")
    assert set(check([elsewhere], evidence(episode))) == {gate.__name__ for gate in gates.GATES}


def test_gate_task_of_a_measured_panel() -> None:
    lesson, episode = sound()
    shared = task("test", task_id=lesson.task_id)
    assert fails(lesson, evidence(episode, measured=[shared])) == ["no_measured_task"]
    assert fails(lesson, evidence(episode, tasks={})) == ["no_measured_task", "no_measured_goal"]


def test_gate_goal_of_a_measured_task() -> None:
    lesson, episode = sound()
    twin = replace(task_of(HOME, task_id="dev-7"), panel="dev")
    assert fails(lesson, evidence(episode, measured=[twin])) == ["no_measured_goal"]


def test_gate_shortened_opening() -> None:
    lesson, episode = sound()
    assert fails(with_message(lesson, 1, content=episode.opening[:-1]), evidence(episode)) == ["whole_opening"]


def test_gate_nothing_trained() -> None:
    lesson, episode = sound()
    idle = replace(lesson, messages=[replace(m, train=False) for m in lesson.messages])
    assert fails(idle, evidence(episode)) == ["has_trained_tokens"]


def test_gate_length() -> None:
    lesson, episode = sound()
    assert fails(lesson, evidence(episode, max_tokens=lesson.tokens - 1)) == ["within_limit"]
    assert fails(replace(lesson, tokens=lesson.tokens + 1), evidence(episode)) == ["within_limit"]


def test_gate_observation_marked_for_training() -> None:
    lesson, episode = sound()
    assert fails(with_message(lesson, 3, train=True), evidence(episode)) == ["only_replies_trained"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda e: Encoded(e.input_ids, e.input_ids),  # loss on everything
        lambda e: Encoded(e.input_ids, [IGNORED, *e.labels[:-1]]),  # a shifted mask
        lambda e: Encoded(e.input_ids, [x if x in (IGNORED, END) else x + 1 for x in e.labels]),  # other tokens
        lambda e: Encoded(e.input_ids, [*e.labels[:-9], *[IGNORED] * 9]),  # a reply's end without loss
    ],
)
def test_gate_mask_that_does_not_cover_the_replies(spoil: Any) -> None:
    lesson, episode = sound()
    assert fails(lesson, evidence(episode, encode=lambda m: [spoil(encode(m)[0])])) == ["only_replies_trained"]


def test_gate_lesson_of_an_unknown_episode() -> None:
    lesson, episode = sound()
    with pytest.raises(GateError, match="claims episode nowhere"):
        check([replace(lesson, episode_id="nowhere")], evidence(episode))


def settings(shared_goals: str = "drop") -> Any:
    return SimpleNamespace(
        cell=Cell,
        lessons=SimpleNamespace(
            max_refused={"alfworld": 1}, ngram=6, shared_goals=shared_goals, known=0.0, match=None, seed=0
        ),
        students={"alfworld": SimpleNamespace(max_tokens=5000)},
        agent=SimpleNamespace(shots={"alfworld": 0}),
    )


SETTINGS = settings()


def data_with(tmp_path: Path, *episodes: Episode) -> Path:
    """A data folder with panels and the teacher's episodes."""
    panels = tmp_path / "panels/alfworld"
    panels.mkdir(parents=True)
    write_panels(
        panels, "alfworld", "made up", {"train": [task_of(HOME)], "dev": [task("dev")], "test": [task("test")]}
    )
    sha256 = load_panel(panels, "train")[1]
    path = tmp_path / "teacher/alfworld_react/rag/episodes.parquet"
    write(path, Episode, [replace(e, panel_sha256=sha256) for e in episodes])
    return tmp_path


def test_the_stage_writes_lessons_and_gates(tmp_path: Path) -> None:
    data = data_with(tmp_path, hinted(), hinted(WIN[:2]), hinted(["fly", "fly", *WIN]))
    line = stage.run(CELL, "distilled", SETTINGS, Chat(make_tokenizer()), data)
    out = data / "lessons/alfworld_react_distilled"
    report = json.loads((out / "gates.json").read_text())
    (lesson,) = read(out / "lessons.parquet", Lesson)
    assert line == "alfworld_react, distilled: 1 kept of 3 episodes; dropped: failure 1, refused 1"
    assert report["dropped"] == {"failure": 1, "refused": 1}
    assert (report["schema_version"], report["kept"]) == (1, 1)
    assert report["gates"]["only_replies_trained"] == {"checked": 1, "failed": 0}
    assert HINT not in json.dumps(dataclasses.asdict(lesson))
    assert sorted(p.name for p in out.iterdir()) == ["gates.json", "lessons.parquet"]


def test_the_sft_arm_reads_the_rollouts(tmp_path: Path) -> None:
    data = data_with(tmp_path, play(HOME, WIN))
    (data / "teacher/alfworld_react/rag").rename(data / "own")
    (data / "rollouts").mkdir()
    (data / "own").rename(data / "rollouts/alfworld_react")
    stage.run(CELL, "sft", SETTINGS, Chat(make_tokenizer()), data)
    (lesson,) = read(data / "lessons/alfworld_react_sft/lessons.parquet", Lesson)
    assert (lesson.arm, lesson.hint_ids) == ("sft", [])


def test_no_success_is_one_error_that_changes_nothing(tmp_path: Path) -> None:
    data = data_with(tmp_path, hinted(WIN[:2]))
    kept = data / "lessons/alfworld_react_distilled/lessons.parquet"
    kept.parent.mkdir(parents=True)
    kept.write_text("as before")
    with pytest.raises(making.LessonError, match=r"none of 1 episodes gives a lesson \(failure 1\).*longer warm-up"):
        stage.run(CELL, "distilled", SETTINGS, Chat(make_tokenizer()), data)
    assert kept.read_text() == "as before"


def test_a_failed_gate_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = with_twin(tmp_path, "dev")
    monkeypatch.setattr(making, "Limits", lambda *limits, barred, shots: Limits(*limits))  # a maker that forgets
    with pytest.raises(GateError, match="no_measured_goal: 1 of 2: "):
        stage.run(CELL, "distilled", SETTINGS, Chat(make_tokenizer()), data)
    assert not (data / "lessons").exists()


def with_twin(tmp_path: Path, panel: str) -> Path:
    """A data folder with two successes, at one of whose tasks a task of `panel` asks for the same."""
    other = task_of(HOME, task_id="train-1", scene=3)
    data = data_with(tmp_path, hinted(), replace(hinted(), episode_id="other", task_id="train-1"))
    panels = {"train": [task_of(HOME), other], "dev": [task("dev")], "test": [task("test")]}
    panels[panel] = [replace(task_of(HOME, task_id=f"{panel}-9"), panel=panel)]
    write_panels(data / "panels/alfworld", "alfworld", "made up", panels)
    path = data / "teacher/alfworld_react/rag/episodes.parquet"
    sha256 = load_panel(data / "panels/alfworld", "train")[1]
    write(path, Episode, [replace(e, panel_sha256=sha256) for e in read(path, Episode)])
    return data


@pytest.mark.parametrize("panel", ["dev", "test", "test_seen"])
def test_lessons_that_share_a_measured_goal_are_left_out_and_counted(tmp_path: Path, panel: str) -> None:
    data = with_twin(tmp_path, panel)
    line = stage.run(CELL, "distilled", SETTINGS, Chat(make_tokenizer()), data)
    assert line == "alfworld_react, distilled: 1 kept of 2 episodes; dropped: shared_goal 1"
    (lesson,) = read(data / "lessons/alfworld_react_distilled/lessons.parquet", Lesson)
    assert lesson.task_id == "train-1"
    report = json.loads((data / "lessons/alfworld_react_distilled/gates.json").read_text())
    assert report["gates"]["no_measured_goal"] == {"checked": 1, "failed": 0}


def test_lessons_that_share_a_measured_goal_are_kept_and_counted_where_the_settings_say_so(tmp_path: Path) -> None:
    data = with_twin(tmp_path, "test")
    line = stage.run(CELL, "distilled", settings("keep"), Chat(make_tokenizer()), data)
    assert line == "alfworld_react, distilled: 2 kept of 2 episodes; dropped: none"
    report = json.loads((data / "lessons/alfworld_react_distilled/gates.json").read_text())
    assert report["gates"]["no_measured_goal"] == {"checked": 2, "failed": 1}
    assert report["gates"]["no_measured_task"] == {"checked": 2, "failed": 0}


def test_on_webshop_a_product_or_the_words_alone_are_shared() -> None:
    def goal(name: str, asin: str, words: str) -> Task:
        return Task(
            name, "webshop", name, "food", words, {"asin": asin, "instruction": words, "attributes": [], "options": []}
        )

    train = [goal("product", "A", "another"), goal("words", "B", "a cup"), goal("neither", "B", "another")]
    assert gates.sharing(train, [goal("test", "A", "a cup")], WEBSHOP.asks) == {"product", "words"}


def test_episodes_of_another_panel_are_refused(tmp_path: Path) -> None:
    data = data_with(tmp_path, hinted(panel="test"))
    with pytest.raises(making.LessonError, match="not played on the train panel"):
        stage.run(CELL, "distilled", SETTINGS, Chat(make_tokenizer()), data)
