"""The hint writer: each rule on an episode that calls for it and on one that does not; and the stage around it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from household import SHA, Household, play, task_of
from structure import ROOT

import stages.hints as stage
from stages.core import plugins
from stages.core.params import Cell, load
from stages.core.records import Answer, BankEntry, Episode, Hint, Opening, Rejection, read
from stages.core.sections import Before
from stages.core.spec import EnvSpec
from stages.envs.base import Task
from stages.envs.panel import write_panels
from stages.hinting import general
from stages.hinting.alfworld import RULES
from stages.hinting.alfworld.probe import probe
from stages.hinting.alfworld.reading import Goal, read_goal
from stages.hinting.alfworld.rules import TIERS
from stages.hinting.bank import build_bank
from stages.hinting.base import Failure, ProbeRecord, rules_of
from stages.hinting.contrast import beside
from stages.hinting.writers.rules import found as found_by_rules
from stages.language import household as wording

TEST_TASK = Task(
    "test-0",
    "alfworld",
    "test",
    "put",
    "put a lute in safe",
    {"scene": 10, "task_type": "put", "object": "Lute", "receptacle": "Safe"},
)
ROOM = {"table 1": ["mug 1"], "box 1": ["egg 1"], "tub 1": [], "zapper 1": [], "shelf 1": []}
FETCH = ["go to box 1", "open box 1", "take egg 1 from box 1"]
PUT = ["go to shelf 1", "move egg 1 to shelf 1"]
STUDY = load(ROOT / "params.yaml")
SETTINGS = STUDY.hints


def room(**changes: object) -> Household:
    return replace(Household(ROOM, shut=frozenset({"box 1"})), **changes)  # type: ignore[arg-type]


def zapping(sentence: str = "put a glowing egg in shelf") -> Household:
    return room(state="zap", tools={"wet": "tub 1", "zap": "zapper 1"}, sentence=sentence)


def write_hints(episode: Episode, tried: ProbeRecord | None, max_chars: int, most: int) -> list[Hint]:
    """What the writer says of a failure, `most` hints at most."""
    changes = {"max_chars": max_chars, "per_failure": {"alfworld": most}}
    return found_by_rules(Failure(episode, tried), RULES, SETTINGS.model_copy(update=changes))


def rules(home: Household, actions: Sequence[str], tried: ProbeRecord | None = None) -> dict[str, str]:
    """Rule and text of all that is written for a failure."""
    return {hint.rule: hint.text for hint in write_hints(play(home, actions), tried, 120, 99)}


@pytest.mark.parametrize(
    ("sentence", "goal"),
    [
        ("put a hot egg in countertop", Goal("egg", "countertop", "hot", None, False)),
        ("cool some pan and put it in shelf.", Goal("pan", "shelf", "cool", None, False)),
        ("put some watch on safe", Goal("watch", "safe", None, None, False)),
        ("find two box and put them in sidetable", Goal("box", "sidetable", None, None, True)),
        ("put two box in sidetable", Goal("box", "sidetable", None, None, True)),
        ("examine the pillow with the desklamp", Goal("pillow", None, None, "desklamp", False)),
        ("look at mug under the floorlamp", Goal("mug", None, None, "floorlamp", False)),
        ("buy a red shirt", None),
    ],
)
def test_goals_are_read(sentence: str, goal: Goal | None) -> None:
    assert read_goal(sentence) == goal


@pytest.mark.parametrize(
    ("rule", "home", "fails", "passes"),
    [
        ("second_missing", room(state="never", sentence="put two egg in shelf"), [*FETCH, *PUT], FETCH),
        ("unplaced", room(), [*FETCH, "go to shelf 1"], ["go to box 1"]),
        ("untaken", room(), ["go to box 1", "open box 1", "go to tub 1"], FETCH),
        ("wrong_object", room(), ["go to table 1", "take mug 1 from table 1"], FETCH),
        ("absent_object", room(), ["go to table 1", "take egg 1 from table 1"], FETCH),
        ("hand_full", room(), [*FETCH, "go to table 1", "take mug 1 from table 1"], FETCH),
        ("absent_place", room(), ["go to shelf 2"], ["go to shelf 1", "go to shelf 1"]),
        ("closed", room(), ["go to box 1", "go to tub 1"], ["go to box 1", "open box 1"]),
        ("unvisited", room(), ["go to table 1"], FETCH),
        ("revisited", room(), ["go to tub 1", "go to box 1", "go to tub 1"], ["go to tub 1", "go to box 1"]),
        ("refused", room(), ["fly", "look", "fly"], ["fly", "look", "sing"]),
        ("repeated", room(), ["look", "look", "look"], ["look", "look"]),
        ("unreadable", room(), [""], ["look"]),
        ("step_missing", zapping(), [*FETCH, "go to shelf 1"], ["go to box 1"]),
        ("tool_offered", zapping("zap some egg and put it in shelf"), [*FETCH, "go to zapper 1", "look"], FETCH),
    ],
)
def test_rule(rule: str, home: Household, fails: list[str], passes: list[str]) -> None:
    assert rule in rules(home, fails)
    assert rule not in rules(home, passes)


def test_a_verified_tool_comes_first_in_a_known_wording() -> None:
    home = zapping()
    episode = play(home, ["go to table 1", "fly", "fly"])
    hints = write_hints(episode, probe(home, task_of(home), episode, 100), 120, 2)
    assert hints[0].rule == "tool_verified"
    assert hints[0].text in [form.format(verb="zap", tool="zapper") for form in wording.TOOL_FORMS]
    assert "'zap {object} with {zapper}'" in hints[0].text
    assert "You zap the egg 1." in hints[0].evidence
    assert len(hints) == 2


def test_a_tool_has_one_wording_whatever_the_episode() -> None:
    home = zapping()
    texts = set()
    for length in range(1, 9):
        episode = play(home, ["look"] * length)
        tried = probe(home, task_of(home), episode, 100)
        texts.add(write_hints(episode, tried, 120, 1)[0].text)
        assert write_hints(episode, tried, 120, 1) == write_hints(episode, tried, 120, 1)
    assert len(texts) == 1


def test_a_tool_that_was_used_is_no_lesson() -> None:
    home = zapping()
    tried = probe(home, task_of(home), play(home, []), 100)
    used = play(home, [*FETCH, "go to zapper 1", "zap egg 1 with zapper 1"])
    hints = write_hints(used, replace(tried, episode_id=used.episode_id), 120, 9)
    assert [hint.rule for hint in hints] == ["unplaced"]


def test_a_missing_step_is_named_only_while_no_tool_is_known() -> None:
    home = zapping()
    episode = play(home, [*FETCH, "go to shelf 1"])
    assert "step_missing" in rules(home, [*FETCH, "go to shelf 1"])
    assert "step_missing" not in rules(home, [*FETCH, "go to shelf 1"], probe(home, task_of(home), episode, 100))


def test_an_adjective_alone_links_no_tool() -> None:
    """Without a probe nothing says that zapping makes an egg glow, though it was on offer."""
    assert "tool_offered" not in rules(zapping(), [*FETCH, "go to zapper 1", "go to shelf 1"])


def test_a_lamp_is_named_as_it_was_shown() -> None:
    holds = {"desk 1": ["lantern 1"], "bed 1": ["egg 1"]}
    home = Household(holds, lamp="lantern 1", sentence="look at egg under the lantern")
    episode = play(home, ["go to bed 1"])
    text = write_hints(episode, probe(home, task_of(home), episode, 100), 120, 1)[0].text
    assert text in [form.format(verb="use", tool="lantern") for form in wording.USE_FORMS]


def test_no_hint_is_longer_than_asked() -> None:
    home = zapping()
    episode = play(home, ["go to table 1", "fly", "fly"])
    tried = probe(home, task_of(home), episode, 100)
    for limit in (120, 100, 80):
        assert all(len(hint.text) <= limit for hint in write_hints(episode, tried, limit, 9))
    assert all(len(text) <= 120 for text in wording.GENERIC)


def test_successes_machine_failures_and_strange_probes_are_refused() -> None:
    home = room()
    with pytest.raises(ValueError, match="no failure of the agent"):
        write_hints(play(home, [*FETCH, *PUT]), None, 120, 4)
    with pytest.raises(ValueError, match="no failure of the agent"):
        write_hints(play(home, FETCH, machine_failure="engine down"), None, 120, 4)
    other = probe(home, task_of(home), play(home, ["look"]), 100)
    with pytest.raises(ValueError, match="the probe is of episode"):
        write_hints(play(home, FETCH), other, 120, 4)


@pytest.mark.parametrize(
    ("rule", "fails", "passes"),
    [
        ("refused", ["fly"], ["look"]),
        ("repeated", ["look", "look", "look"], ["look", "look"]),
        ("unreadable", [""], ["look"]),
    ],
)
def test_an_environment_without_rules_of_its_own_has_general_ones(
    rule: str, fails: list[str], passes: list[str]
) -> None:
    def found(actions: list[str], stop: str) -> list[str]:
        episode = play(room(), actions, stop=stop)
        return [hint.rule for hint in found_by_rules(Failure(episode), general.RULES, SETTINGS)]

    assert found(fails, "repeated") == [rule]
    assert found(passes, "repeated") == []
    assert found(passes, "turn_limit") == ["unfinished"]


def test_an_environment_names_its_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = plugins.environment("alfworld")
    assert rules_of("alfworld") is RULES
    bare = EnvSpec("bare", "Bare", spec.interface, *[""] * 4, same_goal=(), skills=())
    monkeypatch.setattr(plugins, "environment", lambda name: bare)
    assert rules_of("bare") is general.RULES
    wrong = replace(bare, hint_rules="stages.hinting.alfworld.rules:RULES")
    monkeypatch.setattr(plugins, "environment", lambda name: wrong)
    with pytest.raises(
        plugins.PluginError, match=r"stages\.hinting\.alfworld\.rules:RULES: expected HintRules, found \("
    ):
        rules_of("wrong")


@pytest.mark.parametrize(
    ("env", "changes", "basis"),
    [
        ("alfworld", {"probe_steps": 7}, "the environment's text, and up to 7 steps of trying out"),
        ("alfworld", {"probe_steps": 0}, "the environment's text"),
        ("alfworld", {"evidence": ["contrast"]}, "the environment's text"),
        ("webshop", {"sees_parts": True}, "the reward's parts"),
        ("webshop", {"sees_parts": False}, "the pages and the reward as a whole, not its parts"),
    ],
)
def test_rules_say_what_they_read(env: str, changes: dict[str, Any], basis: str) -> None:
    assert rules_of(env).basis(SETTINGS.model_copy(update=changes)) == basis


HINT = "hint_of(failures[0].episode, 'ode', 'Go on.', 'seen')"


def learnt_by(poem: str, monkeypatch: pytest.MonkeyPatch, folder: Path, failed: Sequence[Failure] = ()) -> stage.Tables:
    """What the stage makes of failures with a writer `poet` whose `write` returns `poem`."""
    write_panels(folder, "alfworld", "generated", {"test": [TEST_TASK]})
    (folder / "hinting" / "writers").mkdir(parents=True)
    (folder / "hinting" / "writers" / "poet.py").write_text(
        "from dataclasses import replace\nfrom stages.hinting.base import Written, hint_of\n"
        f"def write(failures, rules, study): return {poem}"
    )
    monkeypatch.setattr(plugins, "STAGES", folder)
    monkeypatch.setattr("stages.hinting.writers.__path__", [str(folder / "hinting" / "writers")])
    monkeypatch.delitem(sys.modules, "stages.hinting.writers.poet", raising=False)
    poet = STUDY.model_copy(update={"hints": SETTINGS.model_copy(update={"writer": "poet"})})
    return stage.learn(failed, [failure.episode for failure in failed], RULES, poet, folder)[0]


def test_another_writer_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failed = [Failure(play(room(), FETCH))]
    [hint] = learnt_by(f"Written([{HINT}])", monkeypatch, tmp_path, failed).hints
    assert (hint.rule, hint.text, hint.episode_id) == ("ode", "Go on.", failed[0].episode.episode_id)
    with pytest.raises(plugins.PluginError, match="no hint writer 'rules' in stages/hinting/writers, only poet"):
        stage.learn([], [], RULES, STUDY, tmp_path)


@pytest.mark.parametrize(
    ("poem", "said"),
    [
        (f"[{HINT}]", r"write returned \[Hint\(.*, expected stages\.hinting\.base\.Written"),
        ("None", "write returned None, expected"),
        ("Written(['Go\\non.'])", r"'Go\\non\.' is no hint of a failure that it was given; make it with .*hint_of"),
        (f"Written([replace({HINT}, episode_id='won')])", "is no hint of a failure that it was given"),
        (f"Written([replace({HINT}, category='heat')])", "is no hint of a failure that it was given"),
    ],
)
def test_a_writer_that_returns_something_else_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, poem: str, said: str
) -> None:
    with pytest.raises(plugins.PluginError, match=f"stages/hinting/writers/poet: .*{said}") as fault:
        learnt_by(poem, monkeypatch, tmp_path, [Failure(play(room(), FETCH))])
    assert "\n" not in str(fault.value)


def test_the_stage_takes_the_agents_own_failures() -> None:
    home = room()
    lost, broken = play(home, FETCH), play(home, ["look"], machine_failure="engine down")
    won = play(home, [*FETCH, *PUT])
    assert stage.failures([lost, broken, won], SHA, "here") == [lost]
    with pytest.raises(stage.HintError, match="panel 'test'"):
        stage.failures([lost, replace(won, panel="test")], SHA, "here")
    with pytest.raises(stage.HintError, match="rerun the rollouts"):
        stage.failures([lost], "b" * 64, "here")


def learnt(failed: Sequence[Episode], home: Household, panels: Path, probing: bool = True) -> tuple[stage.Tables, str]:
    """What the stage makes of failures in a household, whose measured panels are `panels`."""
    write_panels(panels, "alfworld", "generated", {"test": [TEST_TASK]})
    probes = stage.probe_all(failed, [task_of(home)], home if probing else None, RULES, 100)
    return stage.learn([*beside(failed, probes, failed, [])], failed, RULES, STUDY, panels)


def test_the_stage_probes_writes_and_counts(tmp_path: Path) -> None:
    home = zapping()
    failed = [play(home, ["look"]), play(home, FETCH)]
    (tmp_path / "panels").mkdir()
    made, basis = learnt(failed, home, tmp_path / "panels")
    assert [p.outcome for p in made.probes] == ["verified", "verified"]
    stage.write_all(tmp_path / "out", made, {"writer": "rules", "basis": basis}, "# Hints\n")
    assert read(tmp_path / "out/hints.parquet", Hint) == made.hints != []
    assert read(tmp_path / "out/bank.parquet", BankEntry) == build_bank(made.hints, 0.85, TIERS)
    assert read(tmp_path / "out/probes.parquet", ProbeRecord) == made.probes
    assert read(tmp_path / "out/openings.parquet", Opening) == made.openings != []
    assert read(tmp_path / "out/rejected.parquet", Rejection) == read(tmp_path / "out/answers.parquet", Answer) == []
    assert (tmp_path / "out/bank.md").read_text(encoding="utf-8") == "# Hints\n"
    said = json.loads((tmp_path / "out/writer.json").read_text(encoding="utf-8"))
    assert said == {"schema_version": 1, "writer": "rules", "basis": RULES.basis(SETTINGS)}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "panels"]
    steps = sum(p.steps_used for p in made.probes)
    assert stage.summary(failed, made).endswith(f"probes: verified 2, {steps} steps")


def test_without_an_environment_nothing_is_probed(tmp_path: Path) -> None:
    home = zapping()
    made, _ = learnt([play(home, FETCH)], home, tmp_path, probing=False)
    assert made.probes == []
    assert [hint.rule for hint in made.hints] == ["step_missing"]
    with pytest.raises(stage.HintError, match="'train-0', which the panel does not have"):
        stage.probe_all([play(home, FETCH)], [task_of(home, task_id="train-9")], None, RULES, 100)


def test_no_failures_are_no_error(tmp_path: Path) -> None:
    made, basis = stage.learn([], [], RULES, STUDY, tmp_path)
    stage.write_all(tmp_path / "out", made, {"writer": "rules", "basis": basis}, "")
    assert read(tmp_path / "out/bank.parquet", BankEntry) == []
    assert "failed at no task" in stage.summary([], made)


def test_a_round_whose_base_failed_at_nothing_is_refused() -> None:
    before = Before(commit="0" * 40, student="alfworld_react_distilled_s0")
    with pytest.raises(stage.HintError, match="alfworld_react_distilled_s0 failed at no train task"):
        stage.check_round(before, [])
    stage.check_round(None, [])


def test_a_missing_input_is_one_line_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stage, "DATA", tmp_path)
    monkeypatch.setattr(stage, "load", lambda: SimpleNamespace(hints=SETTINGS, cell=Cell))
    monkeypatch.setattr(sys, "argv", ["hints", "--cell", "alfworld_react"])
    kept = tmp_path / "hints/alfworld_react/kept.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps("as before"))
    assert stage.main() == 1
    error = capsys.readouterr().err
    assert error.startswith("hints: ") and "panels" in error and error.count("\n") == 1
    assert kept.read_text() == json.dumps("as before")
