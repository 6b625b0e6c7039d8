"""params.yaml is read whole or refused whole, every fault with its key."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.core import plugins
from stages.core.params import Cell, Settings, SettingsError, load, parse

COMMITTED = Path(__file__).parent.parent / "params.yaml"
VALUES: dict[str, Any] = yaml.safe_load(COMMITTED.read_text(encoding="utf-8"))
STUDENT = "alfworld_react_distilled_s0"
BEFORE = {"commit": "0" * 40, "student": STUDENT}


def changed(**values: Any) -> dict[str, Any]:
    """The committed settings with some replaced; `a__b=1` stands for `a.b`."""
    new = copy.deepcopy(VALUES)
    for key, value in values.items():
        *sections, name = key.split("__")
        inner = new
        for section in sections:
            inner = inner[section]
        inner[name] = value
    return new


def fault(values: dict[str, Any]) -> str:
    """The one line that says what is wrong."""
    with pytest.raises(SettingsError) as caught:
        parse(values, "params.yaml")
    head, *lines = str(caught.value).splitlines()
    assert head == f"params.yaml: {len(lines)} unusable setting(s)"
    assert len(lines) == 1, lines
    return lines[0].strip()


def test_the_committed_settings_are_usable() -> None:
    settings = load(COMMITTED)
    assert settings.model_dump() == VALUES
    assert settings.axes.cells == ["alfworld_react", "webshop_act"]
    assert [(cell.env, cell.agent) for cell in settings.axes.cells] == [("alfworld", "react"), ("webshop", "act")]
    assert settings.axes.envs == settings.panels.envs == ["alfworld", "webshop"]
    for env in settings.axes.envs:
        sizes = VALUES["panels"][env]["sizes"]
        assert {panel: settings.size(env, panel) for panel in sizes} == {p: sum(sizes[p].values()) for p in sizes}
        assert settings.measured(env) == ["dev", "test"]


def test_a_cells_agent_is_its_last_word() -> None:
    assert (Cell("my_house_react").env, Cell("my_house_react").agent) == ("my_house", "react")


def test_settings_cannot_be_changed_once_read() -> None:
    settings = parse(VALUES, "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        settings.hints.k = 5
    assert isinstance(settings, Settings)


def test_every_fault_is_reported_at_once_with_its_key() -> None:
    values = changed(
        hints__k=0,
        engine__temperature=-1,
        students__alfworld__lora__dropout=1.0,
        axes__arm=["reakt"],
        runner__max_turns="many",
        lesons={},
    )
    del values["stats"]["seed"]
    with pytest.raises(SettingsError) as caught:
        parse(values, "elsewhere.yaml")
    head, *lines = str(caught.value).splitlines()
    assert head == "elsewhere.yaml: 7 unusable setting(s)"
    keys = {line.split(": ")[0].strip() for line in lines}
    assert keys == {
        "hints.k",
        "engine.temperature",
        "students.alfworld.lora.dropout",
        "axes.arm.0",
        "runner.max_turns",
        "lesons",
        "stats.seed",
    }
    assert any("'reakt'" in line and "'sft'" in line for line in lines)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"hint": {"k": 3}}, "hint"),
        ({"hints__topk": 3}, "hints.topk"),
        ({"students__webshop__lora__rank": 3}, "students.webshop.lora.rank"),
        ({"axes__env": ["alfworld"]}, "axes.env"),
        ({"warmup__shown": {"alfworld": 0.5}}, "warmup.shown"),
        ({"students__alfworld__rise": 0.1}, "students.alfworld.rise"),
        ({"students__alfworld__on_policy__clip": 1.0}, "students.alfworld.on_policy.clip"),
        ({"panels__sokoban": {}}, "panels.sokoban"),
    ],
)
def test_unknown_keys_are_refused(change: dict[str, Any], key: str) -> None:
    assert fault(changed(**change)).startswith(f"{key}: Extra inputs are not permitted")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"axes__cell": []}, "axes.cell"),
        ({"axes__cell": [{"env": "alfworld", "agent": "react"}]}, "axes.cell.0"),
        ({"axes__cell": ["alfworld_act"]}, "(top)"),
        ({"warmup__cells": ["alfworld_reakt"]}, "warmup.cells.0"),
        ({"hints__writer": "poet"}, "hints.writer"),
        ({"limit__train": 0}, "limit.train"),
        ({"axes__seed": [-1]}, "axes.seed.0"),
        ({"axes__arm": ["sft", "dpo"]}, "axes.arm.1"),
        ({"panels__alfworld__seed": -1}, "panels.alfworld.seed"),
        ({"panels__alfworld__sizes__train__put": -1}, "panels.alfworld.sizes.train.put"),
        ({"panels__alfworld__sizes__train__slice": 1}, "panels.alfworld.sizes.train.slice"),
        ({"panels__alfworld__source": "stolen"}, "panels.alfworld.source"),
        ({"model__source": ""}, "model.source"),
        ({"before": {"commit": "HEAD", "student": STUDENT}}, "before.commit"),
        ({"before": BEFORE}, f"(top): before has {STUDENT}: axes.cell must be its cell alone"),
        (
            {"before": {**BEFORE, "student": "alfworld_react_distilled"}},
            "(top): 'alfworld_react_distilled' is no student that",
        ),
        (
            {"before": {**BEFORE, "student": "alfworld_react_hinted_s0"}},
            "(top): 'alfworld_react_hinted_s0' is no student that plays",
        ),
        ({"warmup__hinted_share": 1.5}, "warmup.hinted_share"),
        ({"warmup__withheld__alfworld": ["boil"]}, "warmup: withheld.alfworld names 'boil'"),
        ({"warmup__withheld__webshop": ["heat"]}, "warmup: withheld.webshop names 'heat'"),
        ({"panels__webshop__source": "official"}, "panels.webshop"),
        ({"panels__webshop__sizes__test": {"plain": 0}}, "panels.webshop"),
        ({"hints__per_failure": {"alfworld": 4}}, "(top)"),
        ({"lessons__max_refused": {"webshop": 0}}, "(top)"),
        ({"warmup__learning_rate": 0}, "warmup.learning_rate"),
        ({"warmup__subsample": {"alfworld": 0.5}}, "(top)"),
        ({"warmup__subsample__alfworld": 0}, "warmup.subsample.alfworld"),
        ({"warmup__warmup_ratio": 1}, "warmup.warmup_ratio"),
        ({"students__alfworld__quantize": "8bit"}, "students.alfworld.quantize"),
        ({"students__webshop__lora__r": 513}, "students.webshop.lora.r"),
        ({"students__alfworld__schedule": "steps"}, "students.alfworld.schedule"),
        ({"agent__category": "known"}, "agent.category"),
        ({"agent__corrections": 2}, "agent.corrections"),
        ({"agent__reading": "lax"}, "agent.reading"),
        ({"engine__server__student": "student"}, "engine.server.student"),
        ({"engine__server__student": "{base}:{nam}"}, "engine.server.student"),
        ({"agent__shots": {"alfworld": 3, "webshop": 0}}, "(top): agent.shots asks for 3 worked examples on alfworld"),
        ({"agent__shots": {"alfworld": 2, "webshop": 0}}, "(top): agent.shots shows examples of what warmup.withheld"),
        ({"engine__kind": "gpu"}, "engine.kind"),
        ({"engine__slots": 0}, "engine.slots"),
        ({"engine__slots": 1.5}, "engine.slots"),
        ({"engine__context": None}, "engine.context"),
        ({"runner__max_repeats": 1}, "runner.max_repeats"),
        ({"hints__max_chars": 10}, "hints.max_chars"),
        ({"hints__merge_ratio": "high"}, "hints.merge_ratio"),
        ({"hints__retrieval": "tfidf"}, "hints.retrieval"),
        ({"hints__scope": "all"}, "hints.scope"),
        ({"hints__curated": ""}, "hints.curated"),
        ({"lessons__ngram": 1}, "lessons.ngram"),
        ({"students__webshop__epochs": 0}, "students.webshop.epochs"),
        ({"students__webshop__on_policy__kl_clip": 0}, "students.webshop.on_policy.kl_clip"),
        ({"students__webshop__on_policy__divergence": "jensen"}, "students.webshop.on_policy.divergence"),
        ({"evaluate__panels": ["train"]}, "(top): evaluate.panels names 'train'; the cells have dev, test"),
        ({"evaluate__panels": []}, "evaluate.panels"),
        ({"stats__bootstrap": 10}, "stats.bootstrap"),
        ({"stats": None}, "stats"),
        ({"engine__temperature": float("nan")}, "engine.temperature"),
        ({"engine__temperature": float("inf")}, "engine.temperature"),
    ],
)
def test_impossible_values_are_refused(change: dict[str, Any], key: str) -> None:
    said = fault(changed(**change))
    assert said.startswith(key if ": " in key else (f"{key}: ", f"{key}.[key]: "))
    assert len(said) < 200


def test_an_axis_that_names_a_value_twice_is_refused() -> None:
    assert "axis 'seed' names a value twice: [0, 0]" in fault(changed(axes__seed=[0, 0]))


def test_a_reply_longer_than_the_window_is_refused() -> None:
    assert fault(changed(engine__max_new_tokens=4096)).startswith("engine: ")


def test_an_environment_without_a_turn_limit_is_refused() -> None:
    assert "runner.max_turns says nothing of alfworld" in fault(changed(runner__max_turns={}))


@pytest.mark.parametrize("sizes", [{}, {"put": 0, "heat": 0}])
def test_an_empty_panel_is_refused_by_name(sizes: dict[str, int]) -> None:
    text = fault(changed(panels__alfworld__sizes__dev=sizes))
    assert text.startswith("panels.alfworld: ")
    assert "panel 'dev' is empty: give it at least one task in sizes.dev" in text


def test_a_panel_that_is_left_out_is_empty() -> None:
    values = changed()
    del values["panels"]["alfworld"]["sizes"]["test"]
    assert "panel 'test' is empty" in fault(values)


def official(**changes: Any) -> dict[str, Any]:
    """The committed settings on official games, without a warm-up."""
    return changed(**{"panels__alfworld__source": "official", "warmup__enabled": False} | changes)


def test_official_games_need_no_sizes() -> None:
    settings = parse(official(panels__alfworld__sizes={}), "params.yaml")
    assert settings.panels.alfworld.official.train == 1200


def test_the_seen_test_games_are_measured_on_alfworld_alone() -> None:
    settings = parse(official(evaluate__panels=["dev", "test", "test_seen"]), "params.yaml")
    assert settings.measured("alfworld") == ["dev", "test", "test_seen"]
    assert settings.measured("webshop") == ["dev", "test"]


def test_official_games_are_as_many_as_the_settings_or_the_release_say() -> None:
    panels = ("warmup", "train", "dev", "test", "test_seen")
    release = parse(official(panels__alfworld__official__counts=None), "params.yaml")
    assert [release.size("alfworld", panel) for panel in panels] == [0, 1200, 120, 134, 140]
    counts = {"train": 6, "valid_seen": 1, "valid_unseen": 2}
    own = parse(official(panels__alfworld__official__counts=counts), "params.yaml")
    assert [own.size("alfworld", panel) for panel in panels] == [0, 1200, 120, 2, 1]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            changed(evaluate__panels=["test", "test_seen"]),
            "evaluate.panels names 'test_seen'; the cells have dev, test$",
        ),
        (official(evaluate__panels=["test_seen"]), "evaluate.panels names no panel of webshop"),
        (official(warmup__enabled=True), "warm-up tasks of alfworld: give panels.alfworld some, or set warmup.enabled"),
        (official(panels__alfworld__official__sha256="1234"), "panels.alfworld.official.sha256: "),
        (official(panels__alfworld__official__counts={"train": 1}), "panels.alfworld.official.counts"),
        (official(panels__alfworld__official__dev=0), "panels.alfworld.official.dev: "),
    ],
)
def test_official_settings_that_do_not_fit_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        parse(values, "params.yaml")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"axes__cell": ["maze_react"]},
            "axes.cell.0: there is no environment 'maze' in stages/envs, only alfworld, ",
        ),
        (
            {"axes__cell": ["alfworld_poet"]},
            "axes.cell.0: there is no agent 'poet' in stages/agents, only act, ",
        ),
        (
            {"axes__cell": ["alfworld"]},
            "axes.cell.0: a cell is <environment>_<agent>, such as alfworld_react, and no 'alfworld', found 'alfworld'",
        ),
        (
            {"axes__cell": ["_react"]},
            "axes.cell.0: a cell is <environment>_<agent>, such as alfworld_react, and no '_react', found '_react'",
        ),
        (
            {"warmup__withheld": {"maze": ["run"]}},
            "warmup: there is no environment 'maze' in stages/envs, only alfworld, ",
        ),
        (
            {"hints__writer": "poet"},
            "hints.writer: there is no hint writer 'poet' in stages/hinting/writers, only ",
        ),
        ({"limit": {"exam": 3}}, "(top): limit names 'exam'; there are train, dev, test"),
        ({"limit": {"warmup": 3}}, "(top): limit names 'warmup'; there are train, dev, test"),
        (
            {"warmup__nonce": {"alfworld": 0}, "axes__cell": ["alfworld_react"]},
            "(top): warmup.nonce says nothing of webshop, which warmup.cells names",
        ),
        (
            {"panels__webshop__sizes__warmup": {}},
            "(top): warmup.enabled needs warm-up tasks of webshop: give panels.webshop some, or set warmup.enabled to false",
        ),
    ],
)
def test_a_name_that_nothing_has_is_refused_in_one_line(change: dict[str, Any], said: str) -> None:
    assert fault(changed(**change)).startswith(said)


def test_a_limit_counts_where_it_is_less_than_there_are() -> None:
    settings = parse(changed(limit={"train": 5, "dev": 1000, "test": None}), "params.yaml")
    whole = parse(changed(limit={}), "params.yaml")
    assert settings.size("webshop", "train") == 5 < whole.size("webshop", "train") == 100
    for panel in ("dev", "test", "warmup"):
        assert settings.size("webshop", panel) == whole.size("webshop", panel)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: no such file; run from the project's root"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("axes: [alfworld\nhints: 3", "not readable as YAML"),
        ("a:\n\t- b", "not readable as YAML"),
        ("", "expected sections such as axes and panels, found NoneType"),
        ("- axes\n- hints\n", "expected sections such as axes and panels, found list"),
        ("axes", "expected sections such as axes and panels, found str"),
    ],
)
def test_what_is_no_settings_file_is_refused_by_name(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {reason}")


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"\xff\xfe\x00axes")
    with pytest.raises(SettingsError, match=r"params\.yaml: not readable"):
        load(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"axes__arm": ["sft", "distilled_random"]},
            "axes: teacher is [rag], and the arms sft, distilled_random need [rag, random]: set it to that (rag always, as the funnel counts it)",
        ),
        (
            {"axes__teacher": ["rag", "random"]},
            "axes: teacher is [rag, random], and the arms sft, distilled need [rag]: set it to that (rag always, as the funnel counts it)",
        ),
        (
            {"axes__teacher": []},
            "axes: teacher is [], and the arms sft, distilled need [rag]: set it to that (rag always, as the funnel counts it)",
        ),
        (
            {"axes__aided": ["on_policy"]},
            "axes: aided names 'on_policy', and no student of it is trained: add it to axes.arm",
        ),
        (
            {"axes__arm": ["hinted"], "axes__aided": ["hinted"]},
            "axes: aided names 'hinted', whose students are shown hints anyway: take it out",
        ),
        ({"axes__aided": ["sft", "sft"]}, "axes: axis 'aided' names a value twice: ['sft', 'sft']"),
    ],
)
def test_axes_that_do_not_fit_together_say_what_to_do(change: dict[str, Any], said: str) -> None:
    assert fault(changed(**change)) == said


def test_all_arms_and_systems_together_are_usable() -> None:
    values = changed(
        axes__arm=["sft", "distilled", "distilled_random", "hinted", "on_policy"],
        axes__teacher=["random", "rag"],
        axes__retrieval=["rag", "constant", "random", "rag_wrong", "oracle"],
        axes__aided=["distilled", "sft"],
        lessons__match="tokens",
        lessons__known=0.5,
    )
    assert parse(values, "params.yaml").model_dump() == values


def test_hand_written_hints_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = dataclasses.replace(plugins.environment("webshop"), oracle=None)
    known = plugins.environment
    monkeypatch.setattr(plugins, "environment", lambda env: spec if env == "webshop" else known(env))
    assert fault(changed(axes__retrieval=["oracle"])) == (
        "(top): axes.retrieval names oracle, and webshop has no hints written by hand: write some (EnvSpec.oracle), or take it out"
    )


def test_a_student_plays_as_a_base_without_worked_examples() -> None:
    later = {"before": BEFORE, "axes__cell": ["alfworld_react"], "warmup__enabled": False}
    assert parse(changed(**later), "params.yaml").before is not None
    assert "agent.shots must be 0 there" in fault(changed(**later, agent__shots__alfworld=2))
