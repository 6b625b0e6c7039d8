"""Demonstrations and hints on WebShop: what a shopper shows, and what a purchase that fell short teaches."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from structure import ROOT

from stages.agents import get
from stages.core.params import Hints
from stages.core.records import SCHEMA_VERSION, Demo, Episode, Hint, Part, Turn
from stages.demonstrations import webshop as shopping
from stages.demonstrations.plan import Plan
from stages.demonstrations.webshop.demos import demonstrate, lowered, option_hint, play
from stages.demonstrations.webshop.made_up_options import Choice, MadeUpOptions, draw_choices
from stages.envs.base import Task
from stages.envs.panel import load_panel
from stages.envs.webshop.environment import WebShopEnvironment
from stages.hinting.bank import build_bank
from stages.hinting.base import Failure
from stages.hinting.webshop import RULES
from stages.hinting.webshop.rules import TIERS
from stages.hinting.writers.rules import found as found_by_rules
from stages.language import shopping as wording
from stages.language.pages import Request, offers, option_groups, read_request
from stages.panelling.webshop.goals import NO_CAP
from stages.panelling.webshop.panels import build_panels
from stages.panelling.webshop.settings import WebshopPanels
from stages.panelling.webshop.vocabulary import KINDS

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
COMMITTED, HINTS = PARAMS["panels"]["webshop"], PARAMS["hints"]
REAL = {group for department in KINDS.values() for kind in department for group in kind.options}
PLAN = Plan(3, ["options"], 0.5, 40, 1.0, 0.0)
AGENT = get("act", "webshop")
SIZES = {
    **{panel: {"plain": 40, "options": 20} for panel in ("warmup", "train")},
    **{panel: {"plain": 4, "options": 4} for panel in ("dev", "test")},
}
SETTINGS = WebshopPanels.model_validate({**COMMITTED, "products": 300, "sizes": SIZES})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panels") / "webshop"
    build_panels(SETTINGS, folder, names=SIZES)
    return folder


def tasks_of(folder: Path, skill: str) -> list[Task]:
    return [task for task in load_panel(folder, "warmup")[0] if task.skill == skill]


def test_demonstrations_end_in_a_purchase_and_never_choose_a_real_option(folder: Path) -> None:
    env, tasks = WebShopEnvironment(folder), load_panel(folder, "warmup")[0]
    demos = demonstrate(env, tasks, AGENT, PLAN)
    kinds = Counter(demo.kind for demo in demos)
    assert kinds["plain"] >= 10 and kinds["nonce"] >= 5 and set(kinds) == {"plain", "nonce"}
    real = {f"click[{v}]" for t in tasks for v in env_options(folder, t)}
    for demo in demos:
        actions = actions_of(demo)
        assert actions[0].startswith("search[") and actions[-1] == "click[Buy Now]"
        assert not real & set(actions)
    assert demonstrate(env, tasks, AGENT, PLAN) == demos


def test_the_warmups_goals_are_drawn_for_the_demonstrations_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tasks, _ = load_panel(folder, "warmup")
    [found] = shopping.demonstrate(SETTINGS, [AGENT], PLAN, tmp_path)
    assert found == demonstrate(WebShopEnvironment(folder), tasks, AGENT, PLAN) != []
    assert list(tmp_path.iterdir()) == []


def actions_of(demo: Demo) -> list[str]:
    return [AGENT.parse(m.content).action for m in demo.messages if m.role == "assistant"]


def test_of_the_made_up_groups_just_those_are_chosen_that_a_hint_and_the_instruction_name(folder: Path) -> None:
    plan = Plan(5, ["options"], 0.5, 120, 1.0, 0.0)
    demos = demonstrate(WebShopEnvironment(folder), load_panel(folder, "warmup")[0], AGENT, plan)
    cases: Counter[tuple[bool, bool]] = Counter()
    for demo in demos:
        request = read_request(demo.messages[1].content)
        page = next(m.content for m in demo.messages if m.role == "user" and "[Buy Now]" in m.content)
        groups = option_groups(page)
        assert not REAL & set(groups)
        for name, values in groups.items():
            hinted = any(f"{{{name}}}" in hint for hint in demo.hints)
            named = [f"click[{value}]" for value in values if request is not None and request.names(value)]
            cases[hinted, bool(named)] += 1
            chosen = [action for action in actions_of(demo) if action in {f"click[{value}]" for value in values}]
            assert chosen == (named if hinted else [])
            assert not hinted or demo.kind == "nonce"
    assert all(cases[case] >= 3 for case in ((True, True), (True, False), (False, True), (False, False)))


def test_most_made_up_demonstrations_choose_from_several_groups(folder: Path) -> None:
    demos = demonstrate(
        WebShopEnvironment(folder), tasks_of(folder, "plain"), AGENT, Plan(5, ["options"], 0.5, 120, 1.0, 0.0)
    )
    chosen = [sum("You have clicked" in m.content for m in demo.messages) for demo in demos if demo.kind == "nonce"]
    assert sum(number >= 2 for number in chosen) > len(chosen) / 2 and min(chosen) == 1


def test_what_is_opened_is_the_first_that_is_cheap_enough_and_often_not_the_first_shown(folder: Path) -> None:
    passed: Counter[tuple[str, bool]] = Counter()
    for demo in demonstrate(WebShopEnvironment(folder), tasks_of(folder, "plain"), AGENT, PLAN):
        request = read_request(demo.messages[1].content)
        assert request is not None
        shown = [offer for message in demo.messages[2:] for offer in offers(message.content)]
        fitting = [offer.asin for offer in shown if offer.price <= request.cap]
        assert [action for action in actions_of(demo) if action.startswith("click[B0")] == [f"click[{fitting[0]}]"]
        passed[demo.kind, fitting[0] != shown[0].asin] += 1
    for kind in ("plain", "nonce"):
        assert 0.25 < passed[kind, True] / (passed[kind, True] + passed[kind, False]) < 0.75


def test_a_purchase_short_of_a_quality_is_shown_where_it_passes_over_what_costs_too_much_and_no_other(
    folder: Path,
) -> None:
    env, short = WebShopEnvironment(folder), Counter[bool]()
    for task in tasks_of(folder, "plain"):
        for number in range(5):
            goal = lowered(task, random.Random(number))
            messages = play(env, goal, AGENT, (), None)
            if messages is None:
                continue
            seen = env.reset(goal)
            shown = []
            for action in [AGENT.parse(m.content).action for m in messages if m.role == "assistant"]:
                seen = env.step(action)
                shown += offers(seen.text)
            assert seen.done and seen.parts["price_met"] == seen.parts["type_factor"] == 1
            assert seen.reward == 1 or shown[0].price > goal.spec["cap"]
            short[seen.reward < 1] += 1
    assert min(short[True], short[False]) >= 5


def test_a_lowered_limit_is_what_the_instruction_says_and_the_shop_counts(folder: Path) -> None:
    env = WebShopEnvironment(folder)
    limited = [task for task in tasks_of(folder, "plain") if task.spec["cap"] < NO_CAP]
    goals = [lowered(task, random.Random(number)) for number, task in enumerate(limited)]
    for task, goal in zip(limited, goals, strict=True):
        request = read_request(env.reset(goal).text)
        assert request is not None and request.cap == goal.spec["cap"] and request.cap % 10 == 0
        assert max(10, task.spec["cap"] // 20 * 10) <= request.cap <= task.spec["cap"]
    assert sum(goal != task for task, goal in zip(limited, goals, strict=True)) > len(limited) / 2
    free = replace(limited[0], spec={**limited[0].spec, "cap": NO_CAP, "instruction": "i need a lamp"})
    assert lowered(free, random.Random(0)) == free


def test_made_up_options_are_asked_for_in_any_order(folder: Path) -> None:
    choices = [Choice("engraving", ("anchor", "fern"), "fern"), Choice("seal", ("wax", "foil"), "wax")]
    task = tasks_of(folder, "plain")[0]
    asked = [MadeUpOptions(WebShopEnvironment(folder), choices, random.Random(n)).reset(task).text for n in range(10)]
    assert len({text.index("fern") < text.index("wax") for text in asked}) == 2


def test_options_that_are_not_withheld_are_chosen(folder: Path) -> None:
    plan = Plan(5, [], 0.5, 0, 1.0, 0.0)
    demos = demonstrate(WebShopEnvironment(folder), load_panel(folder, "warmup")[0], AGENT, plan)
    shown = [demo for demo in demos if demo.kind == "options"]
    assert len(shown) >= 3
    assert all(len(actions_of(demo)) > len(actions_of(demo)[:3]) for demo in shown)


def test_no_made_up_name_is_a_real_ones() -> None:
    rng = random.Random(0)
    drawn = [choice for _ in range(500) for choice in draw_choices(rng, 1)]
    assert all(choice.named in choice.values for choice in drawn if choice.named)
    assert not REAL & {choice.group for choice in drawn}
    for choices in (draw_choices(rng, 1) for _ in range(300)):
        request = Request(", ".join(choice.named for choice in choices), 1.0)
        for choice in choices:
            assert [value for value in choice.values if request.names(value)] == [choice.named] * bool(choice.named)
    values = {v for department in KINDS.values() for kind in department for vs in kind.options.values() for v in vs}
    same = values & {value for choice in drawn for value in choice.values}
    assert all(value.replace(".", "").isdecimal() for value in same), "only numbers can coincide"


def env_options(folder: Path, task: Task) -> set[str]:
    from stages.envs.webshop.catalogue import load_catalogue

    shop = load_catalogue(folder / "catalogue.parquet", folder.parent / "opened")
    return {value for values in shop.products[task.spec["asin"]].options.values() for value in values}


def test_made_up_groups_stand_in_the_instruction_and_on_the_page_and_cost_nothing(folder: Path) -> None:
    choices = [Choice("engraving", ("anchor", "fern"), "fern"), Choice("seal", ("wax", "foil"), "")]
    task = tasks_of(folder, "plain")[0]
    rewards = set()
    for picked in ("", "anchor", "fern"):
        shop = MadeUpOptions(WebShopEnvironment(folder), choices, random.Random(1))
        request = read_request(shop.reset(task).text)
        assert request is not None and request.names("fern") and request.names("engraving")
        assert not request.names("seal")
        found = offers(shop.step(f"search[{request.text}]").text)
        assert not shop.step("click[fern]").valid
        page = shop.step(f"click[{found[0].asin}]")
        assert option_groups(page.text) == {"engraving": ["anchor", "fern"], "seal": ["wax", "foil"]}
        assert {"click[fern]", "click[wax]"} <= set(page.admissible)
        if picked:
            assert shop.step(f"click[{picked}]").text == f"You have clicked {picked}."
        rewards.add(shop.step("click[Buy Now]").reward)
    assert len(rewards) == 1


def test_stateact_says_what_it_has_selected(folder: Path) -> None:
    agent = get("stateact", "webshop")
    demos = demonstrate(WebShopEnvironment(folder), tasks_of(folder, "plain"), agent, PLAN)
    demo = next(d for d in demos if any("You have clicked" in m.content for m in d.messages))
    replies = [m.content for m in demo.messages if m.role == "assistant"]
    request = read_request(demo.messages[1].content)
    assert request is not None
    assert all(reply.startswith(f"Goal: {request.text}\nSelection: ") for reply in replies)
    selected = [reply.splitlines()[1].removeprefix("Selection: ") for reply in replies]
    opened = next(a for a in (agent.parse(reply).action for reply in replies) if a.startswith("click[B"))
    value = next(m.content for m in demo.messages if "You have clicked" in m.content)
    assert selected[0] == "nothing"
    assert selected[-1].startswith(f"{opened[6:-1]}, ") and value[17:-1] in selected[-1]


def test_react_says_what_it_thinks(folder: Path) -> None:
    demos = demonstrate(WebShopEnvironment(folder), tasks_of(folder, "plain"), get("react", "webshop"), PLAN)
    first = next(m.content for m in demos[0].messages if m.role == "assistant")
    assert first.startswith("Think: I search with the words of the instruction.\nAction: search[")


OPENING = "\nWebShop \nInstruction:  \ni need a lamp in red and size 2, and price lower than 30.00 dollars \n[Search] "
RESULTS = "\n[Back to Search] \nPage 1 (Total results: 50) \n[Next >] \n[B000000001] \nOak Lamp \n$24.99 \n[B000000002] \nAsh Lamp \n$44.0 to $50.0 "
ITEM = "\n[Back to Search] \n[< Prev] \ncolor [red][blue]\nsize [1][2]\nOak Lamp \nPrice: $24.99 \n[Description] \n[Features] \n[Buy Now] "
PARTS = {
    "type_factor": 1.0,
    "attributes_met": 1,
    "attributes_wanted": 1,
    "options_met": 2,
    "options_wanted": 2,
    "price_met": 1,
}


def episode(*played: tuple[str, str], valid: bool = True, **parts: float) -> Episode:
    """A purchase that fell short; `played` are actions and what they led to."""
    turns = [Turn(9, 9, 0, f"Action: {a}", 3, "stop", "", a, "", False, text, valid, []) for a, text in played]
    found = [Part(name, float(value)) for name, value in {**PARTS, **parts}.items()] if parts else []
    return Episode(
        SCHEMA_VERSION, "e1", "t1", "webshop", "act", "base", 0, "train", "f" * 64, "garden", "garden", "options", "i need a lamp", [], [],
        OPENING, turns, False, 0.5, found, len(turns), 0, "done", 9, 3, 9, 0, "m", "none", "",
    )  # fmt: skip


BUY = (("search[lamp]", RESULTS), ("click[B000000001]", ITEM), ("click[Buy Now]", "Your score (min 0.0, max 1.0): 0.5"))


def write_hints(found: Episode, most: int, sees_parts: bool = True) -> list[Hint]:
    """What the writer says of a failure, `most` hints at most."""
    changes = {"max_chars": 120, "sees_parts": sees_parts, "per_failure": {"webshop": most}}
    return found_by_rules(Failure(found), RULES, Hints.model_validate({**HINTS, **changes}))


def lessons(found: Episode, sees_parts: bool = True, most: int = 9) -> dict[str, str]:
    return {hint.rule: hint.text for hint in write_hints(found, most, sees_parts)}


def test_pages_are_read() -> None:
    request = read_request(OPENING)
    assert request is not None
    assert (request.text, request.cap) == ("i need a lamp in red and size 2", 30.0)
    assert request.names("red") and request.names("2") and not request.names("re")
    assert [(o.asin, o.title, o.price) for o in offers(RESULTS)] == [
        ("B000000001", "Oak Lamp", 24.99), ("B000000002", "Ash Lamp", 44.0)
    ]  # fmt: skip
    assert option_groups(ITEM.replace("[red]", "[[red]]")) == {"color": ["red", "blue"], "size": ["1", "2"]}
    assert read_request(ITEM) is None and offers(ITEM) == [] and option_groups(RESULTS) == {}


def test_each_option_group_missed_is_a_lesson_of_its_own() -> None:
    hints = write_hints(episode(*BUY, options_met=0), 2)
    assert [hint.rule for hint in hints] == ["option_missed", "option_missed"]
    assert "{color}" in hints[0].text and "{size}" in hints[1].text
    assert all("red" not in hint.text for hint in hints), "a lesson is general"
    [chosen] = write_hints(episode(*BUY[:2], ("click[red]", "You have clicked red."), BUY[2], options_met=1), 1)
    assert "{size}" in chosen.text


def test_options_that_the_parts_call_met_are_no_lesson() -> None:
    assert "option_missed" not in lessons(episode(*BUY, attributes_met=0))


def test_without_the_parts_the_pages_alone_are_read() -> None:
    blind = lessons(episode(*BUY, attributes_met=0, price_met=0, type_factor=0.5), sees_parts=False)
    assert set(blind) == {"option_missed", "first_product", "never_looked"}
    assert lessons(episode(*BUY), sees_parts=True).keys() == blind.keys(), "nor where the environment names no parts"


def test_the_parts_of_the_reward_have_their_lessons() -> None:
    found = lessons(episode(*BUY, attributes_met=0, price_met=0, type_factor=0.5))
    assert found["attribute_missed"] == wording.ATTRIBUTE
    assert found["over_budget"] == wording.BUDGET
    assert found["wrong_kind"] == wording.KIND


def test_a_dear_product_is_seen_without_the_parts() -> None:
    dear = (BUY[0], ("click[B000000002]", ITEM), BUY[2])
    assert "over_budget" in lessons(episode(*dear), sees_parts=False)
    assert "first_product" not in lessons(episode(*dear), sees_parts=False)


def test_an_unfinished_episode_and_refused_actions_are_lessons() -> None:
    found = lessons(episode(("click[Lamp]", "Invalid action!"), valid=False))
    assert found == {"unfinished": wording.HURRY, "invalid": wording.BRACKETS}


def test_a_look_at_the_features_is_no_fault() -> None:
    looked = (*BUY[:2], ("click[Features]", "\n[< Prev] \n bright "), ("click[< Prev]", ITEM), BUY[2])
    assert "never_looked" not in lessons(episode(*looked))


def test_all_wordings_fit_and_options_rank_first_in_the_bank() -> None:
    assert all(len(text) <= 120 for text in wording.SHOP_GENERIC)
    groups = ("flavor name", "color")
    assert all(len(form.format(group=group)) <= 120 for form in wording.OPTION_FORMS for group in groups)
    rows = [
        ("look", "never_looked", wording.LOOK),
        ("look2", "never_looked", wording.LOOK),
        ("option", "option_missed", "Click {color}."),
    ]
    hints = [Hint(SCHEMA_VERSION, n, "webshop", "act", "garden", text, rule, "seen", n, "t") for n, rule, text in rows]
    assert [entry.text for entry in build_bank(hints, 0.85, TIERS)] == ["Click {color}.", wording.LOOK]


def test_warm_up_hints_are_worded_as_the_writers(folder: Path) -> None:
    texts = {option_hint("engraving", random.Random(n)) for n in range(20)}
    assert texts == {form.format(group="engraving") for form in wording.OPTION_FORMS}


@pytest.mark.parametrize("agent", ["act", "react", "stateact"])
@pytest.mark.parametrize(
    ("reply", "action"),
    [
        ("Action: search[red lamp]", "search[red lamp]"),
        ("Action: click[[x]] \nAction: click[y]", "click[[x]]"),
        ("I would buy it.", ""),
        ("", ""),
        ("Action:", ""),
    ],
)
def test_replies_are_read(agent: str, reply: str, action: str) -> None:
    assert get(agent, "webshop").parse(reply).action == action


def test_act_renders_no_thought() -> None:
    assert AGENT.render("I think.", "click[x]", {"Goal": "x"}) == "Action: click[x]"
    assert AGENT.parse("Well.\nAction: click[x]").thought == ""
