"""Warm-up demonstrations, played in the real engine: what they show, what they must not show, and what is trained."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from household import Household, task_of

from stages import demos as stage
from stages.agents import get
from stages.core.params import Settings, load
from stages.core.records import Demo, Message, read
from stages.demonstrations.alfworld import demos, nonce
from stages.demonstrations.alfworld.demos import demonstrate
from stages.demonstrations.alfworld.explorer import Explorer, Lost, listed
from stages.demonstrations.plan import Plan
from stages.envs.alfworld import TASK_TYPE
from stages.envs.alfworld.environment import AlfworldEnvironment
from stages.envs.base import Task
from stages.envs.panel import load_panel
from stages.language.household import GENERIC
from stages.panelling.alfworld import build
from stages.panelling.alfworld.generator import GAME_FILE, generate_game, write_game

AGENT = get("react", "alfworld")
WITHHELD = ("heat", "cool")
PLAN = Plan(seed=1, withheld=WITHHELD, hinted_share=0.5, nonce=8, subsample=1.0, recovery_share=0.5)
GAMES = 3  # of each task type; every second one in an unseen scene


@pytest.fixture(scope="module")
def games(tmp_path_factory: pytest.TempPathFactory) -> tuple[AlfworldEnvironment, list[Task]]:
    """An environment and tasks of all six types, as a panel would hold them."""
    root = tmp_path_factory.mktemp("panel")
    tasks = []
    for category, task_type in TASK_TYPE.items():
        for number in range(GAMES):
            game = generate_game(1, "warmup", task_type, number, unseen=number % 2 == 1)
            write_game(root / "games", game)
            spec = {"game": f"games/{game.path}", "sha256": hashlib.sha256(game.files[GAME_FILE].encode()).hexdigest()}
            tasks.append(Task(f"{category}-{number}", "alfworld", "warmup", category, game.sentence, spec))
    return AlfworldEnvironment(root, root / "cache"), tasks


@pytest.fixture(scope="module")
def shown(games: tuple[AlfworldEnvironment, list[Task]]) -> list[Demo]:
    """Many demonstrations of the few games, from several seeds."""
    plans = [Plan(seed, WITHHELD, 0.5, 4, 1.0, 0.5) for seed in range(8)]
    return [demo for plan in plans for demo in demonstrate(*games, AGENT, plan)]


def said(demo: Demo, role: str) -> list[str]:
    return [m.content for m in demo.messages if m.role == role]


def actions(demo: Demo) -> list[str]:
    return [AGENT.parse(reply).action for reply in said(demo, "assistant")]


def test_the_explorer_wins_games_of_every_type(
    games: tuple[AlfworldEnvironment, list[Task]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demos, "MAX_STEPS", 100)
    env, tasks = games
    assert {task.category for task in tasks} == {"put", "examine", "clean", "puttwo", "heat", "cool"}
    rng = demos.random.Random(0)
    lost = [task.task_id for task in tasks if demos.play(env, task, AGENT, (), None, False, rng) is None]
    assert lost == []


def test_a_demonstration_s_actions_win_its_game_again(
    games: tuple[AlfworldEnvironment, list[Task]], shown: list[Demo]
) -> None:
    env, tasks = games
    by_id = {task.task_id: task for task in tasks}
    for demo in shown[:20]:
        if demo.kind == "nonce":
            continue
        task = by_id[demo.task_id]
        assert demo.kind == task.category
        assert env.reset(task).text == said(demo, "user")[0]
        seen = [env.step(action) for action in actions(demo)]
        assert [s.text for s in seen[:-1]] == said(demo, "user")[1:]
        assert [s.done for s in seen] == [False] * (len(seen) - 1) + [True]
        assert len(seen) <= demos.MAX_STEPS


def test_every_known_task_is_shown_once_and_no_withheld_one(games: tuple[AlfworldEnvironment, list[Task]]) -> None:
    found = demonstrate(*games, AGENT, PLAN)
    plain = [d.task_id for d in found if d.kind != "nonce"]
    assert len(plain) == len(set(plain))
    assert {d.kind for d in found} == {"put", "examine", "clean", "puttwo", "nonce"}
    assert len(plain) >= 4 * GAMES - 2, "a few may take too long to find"
    made_up = [d.task_id for d in found if d.kind == "nonce"]
    assert len(made_up) == PLAN.nonce
    assert {name.split("-")[0] for name in made_up} == {"clean"}
    assert len({d.demo_id for d in found}) == len(found)


def test_nothing_the_model_learns_tells_of_a_withheld_skill(shown: list[Demo]) -> None:
    forbidden = re.compile(
        r"heat|cool|hot\b|cold|warm|toast(?!er)|chill|freez|cook|with \W?(microwave|fridge|stoveburner|coffeemachine)"
    )
    for demo in shown:
        for text in [*said(demo, "assistant"), *said(demo, "system"), *demo.hints]:
            assert not forbidden.search(text.lower()), (demo.demo_id, text)
        assert not re.search(r"\b(heat|cool|hot|cold)\b", said(demo, "user")[0])
    words = [word for verb, state in nonce.VERBS for word in (verb, state)] + list(nonce.TOOLS)
    assert not [word for word in words if forbidden.search(word)]
    assert not {"microwave", "fridge", "heat", "cool", "clean"} & set(words)


def test_a_withheld_skill_is_withheld_even_where_its_tasks_lend_their_rooms_to_made_up_tools(
    games: tuple[AlfworldEnvironment, list[Task]],
) -> None:
    found = demonstrate(*games, AGENT, Plan(2, ("clean", "heat", "cool"), 1.0, 6, 1.0, 0.0))
    assert {d.kind for d in found} == {"put", "examine", "puttwo", "nonce"}
    for demo in found:
        text = "\n".join([*said(demo, "assistant"), *said(demo, "system"), *demo.hints, said(demo, "user")[0]])
        assert not re.search(r"\bclean", text)
        assert "with sinkbasin" not in text


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_of_hinted_demonstrations_is_kept_at_its_ends(
    games: tuple[AlfworldEnvironment, list[Task]], share: float
) -> None:
    for demo in demonstrate(*games, AGENT, Plan(3, WITHHELD, share, 3, 1.0, 0.0)):
        assert bool(demo.hints) == (demo.kind == "nonce" or share == 1.0)


def test_half_the_demonstrations_are_hinted_and_made_up_tools_always(shown: list[Demo]) -> None:
    known = [d for d in shown if d.kind != "nonce"]
    assert 0.3 < sum(bool(d.hints) for d in known) / len(known) < 0.7
    assert all(d.hints for d in shown if d.kind == "nonce")
    for demo in shown:
        assert len(demo.hints) == len(set(demo.hints)) <= 3
        assert demo.messages[:2] == AGENT.prompt(said(demo, "user")[0], tuple(demo.hints)).messages()


def test_hints_stand_in_any_order(shown: list[Demo]) -> None:
    useful = [[hint in GENERIC for hint in d.hints].index(False) for d in shown if d.kind == "nonce"]
    assert set(useful) == {0, 1, 2}


def test_the_hint_of_a_known_tool_is_the_one_that_is_used(shown: list[Demo]) -> None:
    hinted = [d for d in shown if d.kind == "clean" and d.hints]
    assert hinted
    for demo in hinted:
        assert any("'clean {object} with {sinkbasin}'" in hint for hint in demo.hints)
        assert any(re.fullmatch(r"clean .* with sinkbasin \d+", action) for action in actions(demo))


def test_only_replies_are_trained(shown: list[Demo]) -> None:
    for demo in shown:
        roles = [m.role for m in demo.messages]
        assert roles == ["system"] + ["user", "assistant"] * (len(roles) // 2)
        assert not any(m.train for m in demo.messages if m.role != "assistant")
        assert demo.messages[-1].train


def refused(messages: Sequence[Message]) -> list[int]:
    return [n for n, m in enumerate(messages) if m.role == "user" and m.content == "Nothing happens."]


def test_a_refused_turn_is_not_trained_and_the_recovery_is(shown: list[Demo]) -> None:
    with_mistake = 0
    for demo in shown:
        where = refused(demo.messages)
        untrained = [n for n, m in enumerate(demo.messages) if m.role == "assistant" and not m.train]
        assert untrained == [n - 1 for n in where]
        assert len(where) <= 1
        for n in where:
            with_mistake += 1
            recovery = demo.messages[n + 1]
            assert recovery.train
            assert AGENT.parse(recovery.content).thought.startswith("Nothing happened. ")
            assert AGENT.parse(recovery.content).action != AGENT.parse(demo.messages[n - 1].content).action
            assert demo.messages[n + 2].content != "Nothing happens." if n + 2 < len(demo.messages) else True
    assert 0.1 < with_mistake / len(shown) < 0.6


def test_without_a_recovery_share_nothing_is_refused_and_every_reply_is_trained(
    games: tuple[AlfworldEnvironment, list[Task]],
) -> None:
    for demo in demonstrate(*games, AGENT, Plan(4, WITHHELD, 0.5, 4, 1.0, 0.0)):
        assert refused(demo.messages) == []
        assert all(m.train for m in demo.messages if m.role == "assistant")


def test_a_made_up_tool_has_one_name_everywhere(shown: list[Demo]) -> None:
    states = dict(nonce.VERBS)
    made_up = [d for d in shown if d.kind == "nonce"]
    assert made_up
    for demo in made_up:
        [use] = [match for a in actions(demo) if (match := re.fullmatch(r"(\w+) .* with (\w+) \d+", a))]
        verb, place = use.groups()
        assert states[verb] and place not in ("fridge", "microwave")
        assert any(f"'{verb} {{object}} with {{{place}}}'" in hint for hint in demo.hints)
        opening, *rest = said(demo, "user")
        room, _, sentence = opening.partition("Your task is to: ")
        assert re.search(rf"\ba {place} 1\b", room)
        assert sentence.startswith((f"{verb} some ", f"put a {states[verb]} "))
        assert any(text.startswith(f"You {verb} the ") and f"using the {place} " in text for text in rest)
        everything = "\n".join([*demo.hints, *(m.content for m in demo.messages)])
        assert not re.search(r"\bclean\b", everything)
        assert place != "sinkbasin" and not re.search(r"with sinkbasin \d", everything)


def test_only_the_hint_tells_a_made_up_tool_from_the_other_places() -> None:
    room = ["sinkbasin", *["cabinet"] * 4, "countertop", "countertop", "garbagecan", "toaster", "fridge", "microwave"]
    rng = nonce.random.Random(0)
    tools = [nonce.draw_tool(rng, room) for _ in range(400)]
    sink_beside = [t for t in tools if "sinkbasin" in t.names.values()]
    ordinary = [t for t in tools if t.place in room]
    odd_beside = [t for t in tools if any(n in nonce.TOOLS for p, n in t.names.items() if p != "sinkbasin")]
    assert 300 < len(sink_beside) < 340 and 140 < len(ordinary) < 180 and 170 < len(odd_beside) < 230
    touched = {name for t in tools for names in t.names.items() for name in names}
    assert not touched & {"fridge", "microwave", "toaster", "cabinet"}
    assert all(len({*t.names.values()}) == len(t.names) for t in tools)
    assert not {"heat", "cool", "warm", "chill", "hot", "cold"} & {word for both in nonce.VERBS for word in both}


def test_places_exchange_their_names() -> None:
    home = Household(
        {"sinkbasin 1": ["mug 1"], "shelf 1": [], "shelf 2": []}, sentence="clean some mug and put it in shelf"
    )
    world = nonce.NonceTool(home, nonce.Tool("stamp", "stamped", {"sinkbasin": "shelf", "shelf": "sinkbasin"}, False))
    opening = world.reset(task_of(home)).text
    assert opening.count("a shelf ") == 1 and opening.count("a sinkbasin ") == 2
    assert opening.endswith("stamp some mug and put it in sinkbasin.")
    seen = world.step("go to shelf 1")
    assert seen.text == "You arrive at shelf 1. On the shelf 1, you see a mug 1."
    assert {"go to sinkbasin 2", "take mug 1 from shelf 1"} <= {*seen.admissible}
    world.step("take mug 1 from shelf 1")
    assert world.step("go to sinkbasin 1").text == "You arrive at sinkbasin 1. On the sinkbasin 1, you see nothing."
    assert world.step("move mug 1 to sinkbasin 1").valid


def test_a_tool_named_as_its_verb_works(games: tuple[AlfworldEnvironment, list[Task]]) -> None:
    env, tasks = games
    cleaning = next(task for task in tasks if task.category == "clean")
    for shut in (False, True):
        tool = nonce.Tool("press", "flat", {"sinkbasin": "press"}, shut)
        assert demos.play(env, cleaning, AGENT, (), tool, False, demos.random.Random(0)) is not None


def test_a_made_up_place_with_a_door_shows_what_is_in_it_only_once_open() -> None:
    home = Household({"sinkbasin 1": ["mug 1"], "shelf 1": []}, sentence="clean some mug and put it in shelf")
    world = nonce.NonceTool(home, nonce.Tool("stamp", "stamped", {"sinkbasin": "printer"}, True))
    world.reset(task_of(home))
    assert not world.step("open printer 1").valid
    assert world.step("go to printer 1").text == "You arrive at printer 1. The printer 1 is closed."
    opened = world.step("open printer 1")
    assert (opened.text, opened.valid) == (
        "You open the printer 1. The printer 1 is open. In it, you see a mug 1.",
        True,
    )
    world.step("go to shelf 1")
    assert (
        world.step("go to printer 1").text == "You arrive at printer 1. The printer 1 is open. In it, you see a mug 1."
    )


def test_the_same_plan_gives_the_same_demonstrations(games: tuple[AlfworldEnvironment, list[Task]]) -> None:
    first = demonstrate(*games, AGENT, PLAN)
    assert demonstrate(*games, AGENT, PLAN) == first
    other = demonstrate(*games, AGENT, Plan(2, WITHHELD, 0.5, 8, 1.0, 0.5))
    assert [d.messages for d in other] != [d.messages for d in first]


def test_without_cleaning_tasks_there_is_no_made_up_tool(games: tuple[AlfworldEnvironment, list[Task]]) -> None:
    env, tasks = games
    found = demonstrate(env, [task for task in tasks if task.category == "put"], AGENT, PLAN)
    assert {d.kind for d in found} == {"put"}
    assert demonstrate(env, [], AGENT, PLAN) == []


def test_what_an_observation_lists_is_read() -> None:
    assert listed("On the desk 1, you see a mug 1, a pen 12, and a alarmclock 1.") == [
        "mug 1",
        "pen 12",
        "alarmclock 1",
    ]
    assert listed("The safe 1 is open. In it, you see nothing.") == []
    assert listed("Nothing happens.") == []


def test_an_explorer_gives_up_on_what_it_cannot_read_or_find() -> None:
    with pytest.raises(Lost, match="can't read the task"):
        Explorer("You see a bed 1.\n\nYour task is to: sing a song.")
    explorer = Explorer("You are in a room. You see a bed 1, and a desk 1.\n\nYour task is to: put a mug in desk.")
    with pytest.raises(Lost, match="no mug in any place"):
        for _ in range(10):
            _, action = explorer.decide()
            explorer.observe(action, f"You arrive at {action.removeprefix('go to ')}. You see nothing.")


def test_stateact_says_where_it_is_and_what_it_holds(games: tuple[AlfworldEnvironment, list[Task]]) -> None:
    env, tasks = games
    task = next(task for task in tasks if task.category == "put")
    agent = get("stateact", "alfworld")
    messages = demos.play(env, task, agent, (), None, False, demos.random.Random(0))
    assert messages is not None
    at, hand = "middle of the room", "nothing"
    for message in messages:
        if message.role != "assistant":
            continue
        goal, location, inventory, *_ = message.content.splitlines()
        assert (goal, location, inventory) == (
            f"Goal: {task.goal.rstrip('.')}",
            f"Location: {at}",
            f"Inventory: {hand}",
        )
        verb, _, rest = agent.parse(message.content).action.partition(" ")
        at = rest.removeprefix("to ") if verb == "go" else at
        hand = rest.split(" from ")[0] if verb == "take" else hand
    assert hand != "nothing"


# The stage


def committed(**warmup: object) -> Settings:
    """The committed settings with few warm-up games, and with these of the section `warmup`."""
    settings = load(Path(__file__).parents[1] / "params.yaml")
    few = {**settings.panels["alfworld"].sizes, "warmup": {"put": 2, "clean": 1, "heat": 1}}  # type: ignore[attr-defined]
    games = settings.panels["alfworld"].model_copy(update={"sizes": few})
    changed = {
        "nonce": {"alfworld": 3, "webshop": 3},
        "subsample": {"alfworld": 1.0, "webshop": 1.0},
        "writing": {"alfworld": 2, "webshop": 0},
        **warmup,
    }
    return settings.model_copy(
        update={
            "panels": settings.panels.model_copy(update={"alfworld": games}),
            "warmup": settings.warmup.model_copy(update=changed),
        }
    )


def test_the_stage_plays_the_warmup_games_and_keeps_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = committed()
    monkeypatch.setattr(stage, "load", lambda: settings)
    monkeypatch.setattr(stage, "CACHE", tmp_path / "cache")
    monkeypatch.setattr("stages.panelling.alfworld.panels.win_games", lambda *_: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    said = stage.run("alfworld", tmp_path / "demos")
    assert re.fullmatch(
        r"alfworld: react \d {'clean': 1, 'nonce': 3, 'put': 2}; stateact \d {.*}; hint_writing 2 {'writing': 2}", said
    ), said
    assert sorted(p.relative_to(tmp_path / "demos").as_posix() for p in (tmp_path / "demos").rglob("*")) == [
        "alfworld",
        "alfworld/hint_writing.parquet",
        "alfworld/react.parquet",
        "alfworld/stateact.parquet",
    ]
    assert list((tmp_path / "scratch").iterdir()) == []
    cache = tmp_path / "cache" / "alfworld"
    build(settings.panels["alfworld"], tmp_path / "panels", cache, {}, names=("warmup",))  # type: ignore[arg-type]
    env, (tasks, _) = AlfworldEnvironment(tmp_path / "panels", cache), load_panel(tmp_path / "panels", "warmup")
    plan = Plan(11, ["heat", "cool"], 0.5, 3, 1.0, 0.25)
    for agent in ("react", "stateact"):
        demos_ = read(tmp_path / "demos" / "alfworld" / f"{agent}.parquet", Demo)
        assert demos_ == demonstrate(env, tasks, get(agent, "alfworld"), plan) != []


def test_an_agent_is_taught_its_share(games: tuple[AlfworldEnvironment, list[Task]]) -> None:
    jobs = [(task, False) for task in games[1]]
    whole, half = Plan(1, WITHHELD, 0.5, 8, 1.0, 0.5), Plan(1, WITHHELD, 0.5, 8, 0.5, 0.5)
    assert whole.taught(jobs, "react") == [(n, *job) for n, job in enumerate(jobs)]
    taught = {agent: half.taught(jobs, agent) for agent in ("react", "stateact")}
    for chosen in taught.values():
        assert 0.2 * len(jobs) < len(chosen) < 0.8 * len(jobs)
        assert all(job in whole.taught(jobs, "react") for job in chosen)
    assert taught["react"] != taught["stateact"]


def test_without_warmup_the_tables_are_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "load", lambda: committed(enabled=False))
    assert stage.run("alfworld", tmp_path) == "alfworld: react 0 {}; stateact 0 {}"
    assert read(tmp_path / "alfworld" / "react.parquet", Demo) == []


def test_an_environment_that_no_cell_is_warmed_up_in_has_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "load", lambda: committed(cells=["alfworld_react"]))
    assert stage.run("webshop", tmp_path) == "webshop: none"
    assert list((tmp_path / "webshop").iterdir()) == []
