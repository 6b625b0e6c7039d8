"""Every arm learns what its definition says, from the episodes that it names, and can be followed by ids both ways."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from household import Household, play, task_of
from tiny import make_tokenizer

import stages.lessons as stage
from stages import agents
from stages.core.arms import ARMS, STUDENTS, SYSTEMS, teachers
from stages.core.params import Cell
from stages.core.records import Episode, Lesson, Message, read, write
from stages.curation import gates
from stages.curation.budgets import BudgetError, matched, mixed
from stages.curation.gates import Evidence, GateError, check, gates_of
from stages.curation.making import LessonError
from stages.envs.alfworld import ENVIRONMENT
from stages.envs.panel import load_panel, write_panels
from stages.models.chat import Chat
from stages.models.conversation import examples
from stages.training.pairs import paired, pairs

CELL = Cell("alfworld_react")
REACT = agents.get("react", "alfworld")
HOME = Household({"box 1": ["egg 1"], "shelf 1": []})
WIN = ["go to box 1", "take egg 1 from box 1", "go to shelf 1", "move egg 1 to shelf 1"]
HINT = "To zap {object}: take it, go to {zapper}, then 'zap {object} with {zapper}' at once."
OTHER = "Never put down what the task wants before you have zapped it."
CHAT = Chat(make_tokenizer())
PANEL = ("t0", "t1", "t2", "t3")


def settings(**lessons: Any) -> Any:
    how = {"max_refused": {"alfworld": 1}, "ngram": 6, "shared_goals": "drop", "known": 0.0, "match": None, "seed": 0}
    return SimpleNamespace(
        cell=Cell,
        axes=SimpleNamespace(arm=list(ARMS)),
        lessons=SimpleNamespace(**{**how, **lessons}),
        students={"alfworld": SimpleNamespace(max_tokens=5000)},
        agent=SimpleNamespace(shots={"alfworld": 0}),
        warmup=SimpleNamespace(hidden=lambda env: ["cool"]),
    )


def played(system: str, won: str, hint: str = "", **changes: Any) -> list[Episode]:
    """A run over the panel, which solves the tasks that `won` names by their numbers."""
    hints = {"hints": [hint], "hint_ids": [f"b-{hint[:5]}"]} if hint else {}
    return [
        replace(
            play(HOME, WIN if name[1:] in won else ["fly", *WIN[:2]]),
            **{"episode_id": f"{system}-{name}", "task_id": name, "system": system, **kind(name), **hints, **changes},
        )
        for name in PANEL
    ]


def kind(name: str) -> dict[str, str]:
    """The last task calls for a withheld skill."""
    return dict.fromkeys(("category", "category_used", "skill"), "cool") if name == "t3" else {}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A cell's plays of four train games: by itself it wins two, with the task's hints three, with random ones one."""
    panels = tmp_path / "panels/alfworld"
    panels.mkdir(parents=True)
    train = [task_of(HOME, task_id=name, scene=n) for n, name in enumerate(PANEL)]
    train[3] = replace(train[3], category="cool")
    measured = replace(task_of(HOME, task_id="test-0", scene=9), panel="test")
    write_panels(
        panels,
        "alfworld",
        "made up",
        {"train": train, "dev": [replace(measured, task_id="dev-0", panel="dev")], "test": [measured]},
    )
    record(tmp_path, "rollouts/alfworld_react", played("base", "01"))
    record(tmp_path, "teacher/alfworld_react/rag", played("rag", "012", HINT))
    record(tmp_path, "teacher/alfworld_react/random", played("random", "2", OTHER))
    return tmp_path


def record(data: Path, folder: str, episodes: list[Episode]) -> None:
    sha256 = load_panel(data / "panels/alfworld", "train")[1]
    write(data / folder / "episodes.parquet", Episode, [replace(e, panel_sha256=sha256) for e in episodes])


def made(data: Path, arm: str, **changes: Any) -> tuple[str, list[Lesson], dict[str, Any]]:
    """The stage's line, lessons and gates.json."""
    line = stage.run(CELL, arm, settings(**changes), CHAT, data)
    folder = data / f"lessons/alfworld_react_{arm}"
    return line, read(folder / "lessons.parquet", Lesson), json.loads((folder / "gates.json").read_text())


@pytest.mark.parametrize(
    ("arm", "of", "hint"),
    [
        ("sft", ["base-t0", "base-t1"], ""),
        ("distilled", ["rag-t0", "rag-t1", "rag-t2"], HINT),
        ("distilled_random", ["random-t2"], OTHER),
        ("hinted", ["rag-t0", "rag-t1", "rag-t2"], HINT),
        ("on_policy", ["base-t0", "base-t1", "base-t2", "base-t3"], HINT),
    ],
)
def test_each_arm_learns_from_its_own_episodes(data: Path, arm: str, of: list[str], hint: str) -> None:
    line, lessons, report = made(data, arm)
    assert [lesson.episode_id for lesson in lessons] == of
    assert {tuple(lesson.hint_ids) for lesson in lessons} == {(f"b-{hint[:5]}",) if hint else ()}
    assert len({lesson.lesson_id for lesson in lessons}) == len(of) == report["kept"]
    assert line.startswith(f"alfworld_react, {arm}: {len(of)} kept of 4 episodes; dropped: ")
    assert sum(report["dropped"].values()) + len(of) == 4
    kept, trained = (json.dumps([dataclasses.asdict(m) for x in lessons for m in part(x)]) for part in (all_of, said))
    shown = json.dumps(hint)[1:-1]
    assert (bool(hint) and shown in kept) == (arm in ("hinted", "on_policy"))
    assert not hint or shown not in trained


def all_of(lesson: Lesson) -> list[Message]:
    return [*lesson.messages, *lesson.hinted]


def said(lesson: Lesson) -> list[Message]:
    return [message for message in all_of(lesson) if message.train]


def test_lessons_of_no_two_arms_have_the_same_id(data: Path) -> None:
    ids = [lesson.lesson_id for arm in ARMS for lesson in made(data, arm)[1]]
    assert len(set(ids)) == len(ids)


def test_what_a_hinted_student_learns_is_what_its_teacher_was_shown(data: Path) -> None:
    _, lessons, report = made(data, "hinted")
    assert all(x.messages[0] == REACT.prompt("", (HINT,)).messages()[0] and not x.hinted for x in lessons)
    assert report["not_applied"] == ["no_hint_text", "no_hint_ngrams"]
    assert report["gates"]["hints_there"] == {"checked": 3, "failed": 0}
    assert "no_hint_text" not in report["gates"]
    assert made(data, "distilled")[2]["not_applied"] == []


def test_an_on_policy_lesson_is_one_episode_without_hints_and_with_them(data: Path) -> None:
    _, lessons, report = made(data, "on_policy")
    assert paired(lessons)
    for lesson in lessons:
        assert lesson.messages[0] == REACT.prompt("", ()).messages()[0]
        assert lesson.hinted[0] == REACT.prompt("", (HINT,)).messages()[0]
        assert lesson.hinted[1:] == lesson.messages[1:]
        [pair] = pairs(CHAT, lesson)
        assert lesson.trained_tokens == sum(label != -100 for label in pair.labels)
    refused = lessons[2].messages[2]
    assert refused.content.endswith("Action: fly") and refused.train
    assert report["gates"]["same_replies"] == {"checked": 4, "failed": 0}


def test_an_on_policy_teacher_is_shown_the_worked_examples_and_the_student_is_not(data: Path) -> None:
    how = settings()
    how.agent.shots["alfworld"] = 1
    record(data, "rollouts/alfworld_react", played("base", "01", category_used="put"))
    stage.run(CELL, "on_policy", how, CHAT, data)
    lessons = read(data / "lessons/alfworld_react_on_policy/lessons.parquet", Lesson)
    assert len(lessons) == 4
    for lesson in lessons:
        assert len(lesson.hinted) > len(lesson.messages)
        assert lesson.hinted[-len(lesson.messages) + 2 :] == lesson.messages[2:]
        assert pairs(CHAT, lesson)


def test_episodes_that_cannot_be_distilled_are_left_out_and_counted(data: Path) -> None:
    broken, shortened, plain, cut = played("base", "")
    broken = replace(broken, machine_failure="engine down")
    shortened = replace(shortened, turns=[*shortened.turns[:-1], replace(shortened.turns[-1], elided=1)])
    cut = replace(cut, turns=[replace(cut.turns[0], finish="length"), *cut.turns[1:]])
    record(data, "rollouts/alfworld_react", [broken, shortened, plain, cut])
    hinted = played("rag", "012", HINT)
    lost = replace(hinted[2], hints=[], hint_ids=[], machine_failure="engine down")
    record(data, "teacher/alfworld_react/rag", [*hinted[:2], lost, hinted[3]])
    line, [lesson], report = made(data, "on_policy")
    assert report["dropped"] == {"elided": 1, "machine": 2}
    assert "1 kept of 4 episodes; dropped: elided 1, machine 2" in line
    assert [m.train for m in lesson.messages if m.role == "assistant"] == [False, True, True]


def test_where_the_teacher_was_shown_no_hints_the_student_is_held_to_the_base(data: Path) -> None:
    record(data, "teacher/alfworld_react/rag", played("rag", "012"))
    _, lessons, report = made(data, "on_policy")
    assert len(lessons) == 4 and paired(lessons)
    assert all(lesson.hinted == lesson.messages and lesson.hint_ids == [] for lesson in lessons)
    assert report["gates"]["hints_there"] == {"checked": 4, "failed": 0}


def test_a_task_that_the_teacher_did_not_play_is_named(data: Path) -> None:
    record(data, "teacher/alfworld_react/rag", played("rag", "012", HINT)[:3])
    with pytest.raises(LessonError, match=r"rag/episodes.parquet: no episode of t3, one of 1; run `dvc repro teacher`"):
        made(data, "on_policy")


def test_a_pair_is_left_out_where_only_its_hints_make_it_too_long(data: Path) -> None:
    lessons = made(data, "on_policy")[1]
    with_hints, without = ([sum(len(e.input_ids) for e in examples(CHAT, m)) for m in found] for found in both(lessons))
    how = settings()
    how.students["alfworld"].max_tokens = max(without)
    assert min(with_hints) > max(without)
    with pytest.raises(LessonError, match=r"none of 4 episodes gives a lesson \(too_long 4\), so arm 'on_policy'"):
        stage.run(CELL, "on_policy", how, CHAT, data)


def both(lessons: list[Lesson]) -> tuple[list[list[Message]], list[list[Message]]]:
    return [lesson.hinted for lesson in lessons], [lesson.messages for lesson in lessons]


def test_a_category_without_a_lesson_is_said_and_the_others_go_on(data: Path) -> None:
    line, lessons, report = made(data, "distilled")
    assert report["without"] == ["cool"] and len(lessons) == 3
    assert line.endswith("dropped: failure 1; no lesson of cool")
    line, _, report = made(data, "on_policy")
    assert report["without"] == [] and "no lesson of" not in line


def test_an_arm_without_any_success_is_one_error(data: Path) -> None:
    record(data, "teacher/alfworld_react/random", played("random", "", OTHER))
    with pytest.raises(LessonError, match=r"random/episodes.parquet: none of 4 episodes .* so arm 'distilled_random'"):
        made(data, "distilled_random")
    assert not (data / "lessons/alfworld_react_distilled_random").exists()


def test_an_arm_that_is_none_is_refused(data: Path) -> None:
    with pytest.raises(LessonError, match="there is no arm 'dpo', only sft, distilled, distilled_random, hinted, on_p"):
        made(data, "dpo")


def test_episodes_of_another_panel_are_refused_for_the_hints_too(data: Path) -> None:
    write(data / "teacher/alfworld_react/rag/episodes.parquet", Episode, played("rag", "012", HINT))
    with pytest.raises(
        LessonError, match=r"teacher/alfworld_react/rag.* not played on the train panel .*repro teacher"
    ):
        made(data, "on_policy")


# Budgets


@pytest.mark.parametrize("by", ["lessons", "tokens"])
def test_matched_arms_have_the_smallest_ones_budget(data: Path, by: str) -> None:
    found = {arm: made(data, arm, match=by) for arm in ARMS}
    smallest = found["distilled_random"][1]
    budget = 1 if by == "lessons" else smallest[0].trained_tokens
    for arm, (line, lessons, report) in found.items():
        assert len(lessons) == 1 and sum(x.trained_tokens for x in lessons) <= smallest[0].trained_tokens
        assert (report["matched"]["by"], report["matched"]["budget"]) == (by, budget)
        assert report["matched"]["arms"] == dict.fromkeys(ARMS, 1)
        assert sum(report["dropped"].values()) + len(lessons) == 4
        assert f"matched by {by} to {budget}" in line, arm
    assert found["sft"][2]["dropped"] == {"failure": 2, "matched": 1}


def test_matching_takes_the_same_tasks_in_all_arms_and_others_by_another_seed(data: Path) -> None:
    arms = {arm: made(data, arm)[1] for arm in ("sft", "distilled", "on_policy")}
    chosen = set()
    for seed in range(8):
        kept, budget = matched({**arms, "one": arms["on_policy"][:2]}, "lessons", seed)
        assert budget == 2 and {len(lessons) for lessons in kept.values()} == {2}
        assert kept["sft"] == arms["sft"]
        assert kept["on_policy"] == [x for x in arms["on_policy"] if x in kept["on_policy"]]
        assert (kept, budget) == matched({**arms, "one": arms["on_policy"][:2]}, "lessons", seed)
        three = {x.task_id for x in kept["on_policy"]} & {"t0", "t1", "t2"}
        assert three <= {x.task_id for x in kept["distilled"]}
        chosen.add(tuple(x.task_id for x in kept["distilled"]))
    assert len(chosen) > 1


def test_arms_that_cannot_be_matched_are_one_error_with_their_numbers(data: Path) -> None:
    long, short = made(data, "distilled")[1], made(data, "sft")[1]
    arms = {"distilled": [replace(x, trained_tokens=500) for x in long], "sft": [replace(short[0], trained_tokens=90)]}
    with pytest.raises(
        BudgetError,
        match=r"tokens to 90 would leave arm distilled without a lesson; there are: distilled 3 \(trained tokens 1500\), "
        r"sft 1 \(trained tokens 90\)",
    ):
        matched(arms, "tokens", 0)
    record(data, "teacher/alfworld_react/random", played("random", "", OTHER))
    with pytest.raises(LessonError, match="so arm 'distilled_random' has nothing to learn"):
        made(data, "sft", match="lessons")


def test_known_skills_of_the_base_are_mixed_into_a_teachers_lessons(data: Path) -> None:
    record(data, "rollouts/alfworld_react", played("base", "013"))
    line, lessons, report = made(data, "distilled", known=0.67)
    assert [x.episode_id for x in lessons[:3]] == ["rag-t0", "rag-t1", "rag-t2"]
    assert {x.episode_id for x in lessons[3:]} == {"base-t0", "base-t1"}  # and not of the withheld skill
    assert all(x.arm == "distilled" and x.hint_ids == [] for x in lessons[3:])
    assert report["known"] == 2 and report["gates"]["no_hint_text"] == {"checked": 5, "failed": 0}
    assert "3 kept of 4 episodes; dropped: failure 1; 2 of known skills mixed in" in line
    assert len(made(data, "hinted", known=0.34)[1]) == 4
    for arm in ("sft", "on_policy"):  # which have them anyway
        assert made(data, arm, known=0.67)[1] == made(data, arm)[1]


def test_no_more_is_mixed_in_than_there_is(data: Path) -> None:
    lessons, others = made(data, "distilled")[1], made(data, "sft")[1]
    assert len(mixed(lessons, others, 1.0, 0)) == 5
    assert {mixed(lessons, others, 0.4, seed)[-1].task_id for seed in range(9)} == {"t0", "t1"}


# Gates


def held(lesson: Lesson, arm: str, episode: Episode) -> dict[str, dict[str, int]]:
    own = task_of(HOME, task_id=episode.task_id)
    measured = [replace(task_of(HOME, task_id="test-0", scene=9), panel="test")]
    evidence = Evidence(
        {episode.episode_id: episode},
        {own.task_id: own},
        measured,
        ENVIRONMENT.asks,
        lambda messages: examples(CHAT, messages),
        CHAT.decode,
        6,
        5000,
    )
    return check([lesson], evidence, gates_of(ARMS[arm]))


def spoiled(lesson: Lesson, place: int, content: str) -> list[Message]:
    changed = list(lesson.hinted)
    changed[place] = replace(changed[place], content=content)
    return changed


@pytest.mark.parametrize(
    ("spoil", "gate"),
    [
        (lambda x: replace(x, hinted=spoiled(x, 2, "Think: else.\nAction: look")), "same_replies"),
        (lambda x: replace(x, hinted=spoiled(x, 3, "You see nothing.")), "same_replies"),
        (lambda x: replace(x, hinted=[replace(m, train=False) for m in x.hinted]), "same_replies"),
        (lambda x: replace(x, hinted=x.hinted[:-2]), "same_replies"),
        (lambda x: replace(x, hinted=spoiled(x, 0, "You act in a household.")), "hints_there"),
        (lambda x: replace(x, hinted=x.messages), "hints_there"),
        (lambda x: replace(x, hint_ids=[]), "hints_there"),
        (lambda x: replace(x, messages=x.hinted), "no_hint_text"),
    ],
)
def test_an_on_policy_gate_finds_what_it_is_there_for(data: Path, spoil: Any, gate: str) -> None:
    lesson = made(data, "on_policy")[1][0]
    episode = replace(played("base", "01")[0], hints=[HINT], hint_ids=lesson.hint_ids)
    assert set(held(lesson, "on_policy", episode)) == {g.__name__ for g in gates_of(ARMS["on_policy"])}
    with pytest.raises(GateError) as fault:
        held(spoil(lesson), "on_policy", episode)
    assert f"  {gate}: 1 of 1: {lesson.lesson_id}" in str(fault.value)


def test_a_hinted_lesson_that_lost_its_hints_fails(data: Path) -> None:
    lesson = made(data, "hinted")[1][0]
    episode = played("rag", "0", HINT)[0]
    assert held(lesson, "hinted", episode)["hints_there"] == {"checked": 1, "failed": 0}
    bare = replace(lesson, messages=[REACT.prompt("", ()).messages()[0], *lesson.messages[1:]])
    with pytest.raises(GateError, match="hints_there: 1 of 1"):
        held(bare, "hinted", episode)


def test_only_where_hints_stay_are_the_gates_against_leaks_left_out() -> None:
    for name, arm in ARMS.items():
        assert (set(gates.LEAKS) <= set(gates_of(arm))) == (name != "hinted")


# Names


def test_systems_are_arms_and_ways_of_retrieval() -> None:
    assert SYSTEMS["base"].retrieval == SYSTEMS["sft"].retrieval == SYSTEMS["on_policy"].retrieval == ""
    assert (SYSTEMS["hinted"].arm, SYSTEMS["hinted"].retrieval) == ("hinted", "rag")
    assert (SYSTEMS["distilled_rag"].arm, SYSTEMS["distilled_rag"].retrieval) == ("distilled", "rag")
    assert "hinted_rag" not in SYSTEMS
    assert set(STUDENTS) == {name for name, player in SYSTEMS.items() if player.arm}
    assert [*teachers(["sft"]), *teachers(ARMS)] == ["rag", "rag", "random"]
