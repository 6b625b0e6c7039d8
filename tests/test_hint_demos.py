"""Demonstrations of hint writing: made in made-up worlds, told as the writer `self` is told, and answered as the gate takes it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from structure import ROOT

from stages.agents import get
from stages.core.params import load
from stages.core.records import Demo, Episode
from stages.demonstrations import webshop as shop
from stages.demonstrations import writing
from stages.demonstrations.alfworld import writing as tools
from stages.demonstrations.plan import Plan, Writing
from stages.demonstrations.webshop import writing as options
from stages.engines.base import Reply
from stages.envs.alfworld import TASK_TYPE
from stages.envs.alfworld.environment import AlfworldEnvironment
from stages.envs.base import Task
from stages.envs.panel import load_panel
from stages.envs.webshop.environment import WebShopEnvironment
from stages.hinting import alfworld, answers, gate, webshop
from stages.hinting.base import Failure, HintRules, hint_of
from stages.hinting.prompting import prompt
from stages.panelling.alfworld.generator import GAME_FILE, generate_game, write_game
from stages.panelling.webshop.panels import build_panels
from stages.panelling.webshop.settings import WebshopPanels
from stages.panelling.webshop.vocabulary import KINDS

HINTS = load(ROOT / "params.yaml").hints
NUMBER = 24
WANTED = Writing(NUMBER, HINTS)


def spied(monkeypatch: pytest.MonkeyPatch) -> list[Failure]:
    """The failures that demonstrations are made of from here on, in their order."""
    made, found = writing.demo, list[Failure]()

    def demo(failure: Failure, *rest: object) -> Demo | None:
        result = made(failure, *rest)  # type: ignore[arg-type]
        if result:
            found.append(failure)
        return result

    monkeypatch.setattr(writing, "demo", demo)
    return found


Made = tuple[list[Demo], list[Failure], HintRules]


@pytest.fixture(scope="module")
def games(tmp_path_factory: pytest.TempPathFactory) -> tuple[AlfworldEnvironment, list[Task]]:
    """Games of the four known types; of cleaning more, since they lend their rooms to made-up tools."""
    root, tasks = tmp_path_factory.mktemp("panel"), []
    for category, count in {"clean": 5, "put": 2, "examine": 2, "puttwo": 2}.items():
        for number in range(count):
            game = generate_game(1, "warmup", TASK_TYPE[category], number, unseen=False)
            write_game(root / "games", game)
            spec = {"game": f"games/{game.path}", "sha256": hashlib.sha256(game.files[GAME_FILE].encode()).hexdigest()}
            tasks.append(Task(f"{category}-{number}", "alfworld", "warmup", category, game.sentence, spec))
    return AlfworldEnvironment(root, root / "cache"), tasks


@pytest.fixture(scope="module")
def goods(tmp_path_factory: pytest.TempPathFactory) -> tuple[WebShopEnvironment, list[Task], WebshopPanels]:
    """A shop and the goals of its warm-up."""
    sizes = {panel: {"plain": 40, "options": 10} for panel in ("warmup", "train", "dev", "test")}
    committed = load(ROOT / "params.yaml").panels["webshop"].model_dump()
    settings = WebshopPanels.model_validate({**committed, "products": 400, "sizes": sizes})
    folder = tmp_path_factory.mktemp("panels")
    build_panels(settings, folder, names=("warmup",))
    return WebShopEnvironment(folder), load_panel(folder, "warmup")[0], settings


def plan_of(env: str, seed: int = 1) -> Plan:
    return Plan(seed, {"alfworld": ["heat", "cool"], "webshop": ["options"]}[env], 0.5, 4, 1.0, 0.5, WANTED)


@pytest.fixture(scope="module")
def made(
    games: tuple[AlfworldEnvironment, list[Task]], goods: tuple[WebShopEnvironment, list[Task], WebshopPanels]
) -> dict[str, Made]:
    """Of each environment its demonstrations, the failures they were made of, and its rules."""
    found: dict[str, Made] = {}
    with pytest.MonkeyPatch.context() as patch:
        seen = spied(patch)
        demos = tools.demonstrate(*games, get("react", "alfworld"), plan_of("alfworld"), WANTED)
        found["alfworld"] = (demos, seen[:], alfworld.RULES)
        seen.clear()
        demos = options.demonstrate(*goods[:2], get("act", "webshop"), plan_of("webshop"), WANTED)
        found["webshop"] = (demos, seen[:], webshop.RULES)
    return found


@pytest.mark.parametrize("env", ["alfworld", "webshop"])
def test_a_demonstration_is_told_as_the_writer_self_tells_it(made: dict[str, Made], env: str) -> None:
    demos, failed, _ = made[env]
    assert len(demos) == len(failed) == NUMBER and {d.kind for d in demos} == {"writing"}
    author = answers.Author("self", "", {}, "engine.context", 8192, turns=HINTS.self_turns[env])
    for demo, failure in zip(demos, failed, strict=True):
        *asked, answered = demo.messages
        assert asked == next(answers._talk(failure, HINTS, author))
        assert [m.train for m in asked] == [False, False] and answered.train and answered.role == "assistant"
        assert not failure.episode.success and failure.episode.episode_id not in {e.episode_id for e in won(failed)}


def won(failed: Sequence[Failure]) -> list[Episode]:
    return [f.success for f in failed if f.success]


@pytest.mark.parametrize("env", ["alfworld", "webshop"])
def test_an_answer_is_read_and_passes_the_gate_whole(made: dict[str, Made], env: str) -> None:
    demos, failed, rules = made[env]
    episodes = [f.episode for f in failed]
    held = gate.Gate(HINTS.max_chars, HINTS.per_failure[env], gate.deeds(episodes, rules.deeds))
    for demo, failure in zip(demos, failed, strict=True):
        texts = answers.read_hints(Reply(0, demo.messages[-1].content, "stop", 1, 1, 1))
        assert texts == demo.hints and 1 <= len(texts) <= HINTS.per_failure[env]
        hints = [hint_of(failure.episode, "self", text, "") for text in texts]
        passed, rejected = held.passes(hints, {failure.episode.episode_id: failure.episode})
        assert [h.text for h in passed] == texts and rejected == []


def test_the_hint_names_the_tool_that_won_the_probed_game(made: dict[str, Made]) -> None:
    demos, failed, _ = made["alfworld"]
    lost_tools = 0
    for demo, failure in zip(demos, failed, strict=True):
        assert failure.probe is not None
        winner = failure.probe.winner
        if winner is None:
            assert failure.episode.category in ("put", "puttwo", "examine", "clean")
            continue
        verb, place = winner.action.split()[0], winner.place.split()[0]
        assert len(demo.hints) == 1 and verb in demo.hints[0] and f"{{{place}}}" in demo.hints[0]
        lost_tools += len(failure.probe.trials) > 1
    assert lost_tools >= 2, "some probes try a tool that does not help"
    made_up = [f for f in failed if f.episode.category not in TASK_TYPE]
    assert NUMBER / 2 < len(made_up) < NUMBER
    assert {bool(f.success) for f in made_up} == {True, False}


def test_the_hints_name_the_groups_that_were_not_chosen_from(made: dict[str, Made]) -> None:
    demos, failed, _ = made["webshop"]
    missed = 0
    for demo, failure in zip(demos, failed, strict=True):
        parts = {part.name: part.value for part in failure.episode.parts}
        left = int(parts["options_wanted"] - parts["options_met"])
        named = [hint for hint in demo.hints if re.search(r"click the \{[^}]+\}", hint)]
        assert len(named) == min(left, HINTS.per_failure["webshop"])
        missed += left > 0
        assert failure.episode.turns[-1].observation.endswith(f": {failure.episode.reward}")
        assert failure.episode.reward < 1
    assert NUMBER / 2 < missed < NUMBER


def test_no_demonstration_of_writing_tells_of_a_withheld_skill(made: dict[str, Made]) -> None:
    forbidden = re.compile(
        r"\b(?:heat|cool|hot|cold|warm|chill|cook|freez|toast\b)|with \W?(?:microwave|fridge|stoveburner|coffeemachine)"
    )
    for demo in made["alfworld"][0]:
        for message in demo.messages:
            assert not forbidden.search(message.content.lower()), (demo.demo_id, message.content)
    real = {group for department in KINDS.values() for goods in department for group in goods.options}
    assert {"color", "size"} <= real
    for demo in made["webshop"][0]:
        groups = re.findall(r"^([a-z][^\[\]\n]*) \[", demo.messages[1].content, re.M)
        assert groups and not real & set(groups)
        assert not re.findall("|".join(rf"\{{{group}\}}" for group in real), demo.messages[2].content)


def test_the_same_seed_gives_the_same_demonstrations_and_the_stage_makes_them_once(
    made: dict[str, Made],
    goods: tuple[WebShopEnvironment, list[Task], WebshopPanels],
    tmp_path: Path,
) -> None:
    agent, plan = get("act", "webshop"), plan_of("webshop")
    playing, written = shop.demonstrate(goods[2], [agent], plan, tmp_path)
    assert written == made["webshop"][0] and not {d.demo_id for d in written} & {d.demo_id for d in playing}
    assert len({d.demo_id for d in written}) == NUMBER
    other = options.demonstrate(*goods[:2], agent, plan_of("webshop", 2), WANTED)
    assert other != written


def test_household_failures_are_the_same_each_time(
    games: tuple[AlfworldEnvironment, list[Task]], made: dict[str, Made]
) -> None:
    few = Writing(3, HINTS)
    again = tools.demonstrate(*games, get("react", "alfworld"), plan_of("alfworld"), few)
    assert again == made["alfworld"][0][:3]
    assert tools.demonstrate(games[0], [], get("react", "alfworld"), plan_of("alfworld"), few) == []


def test_a_study_that_tells_its_writer_less_teaches_the_same(made: dict[str, Made]) -> None:
    less = HINTS.model_copy(update={"evidence": [], "probe_steps": 0, "sees_parts": False})
    assert writing.all_told(less).model_copy(update={"probe_steps": HINTS.probe_steps}) == HINTS
    _, failed, _ = made["webshop"]
    assert prompt(failed[0], writing.all_told(less), 4) == prompt(failed[0], HINTS, 4)
