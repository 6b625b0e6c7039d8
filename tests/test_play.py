"""A task played in the terminal, by a person or by an agent that is watched: everything shown, nothing kept."""

from __future__ import annotations

import io
import json
import readline
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ladder import FakeEngine, World, task, up
from little_shop import WANTED, LittleShop
from structure import ROOT

from stages.commands.main import main
from stages.commands.play import complete_from
from stages.core.records import SCHEMA_VERSION, BankEntry, write
from stages.engines.base import Reply
from stages.envs.base import Task
from stages.envs.panel import write_panels
from stages.site.server import serve

Command = Callable[..., int]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A project folder with a dev panel of ladders, a base model's identity and a bank of two hints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    Path("data/base/model").mkdir(parents=True)
    identity = {"source": "tiny", "weights_sha256": "ab" * 32}
    Path("data/base/model/identity.json").write_text(json.dumps(identity), encoding="utf-8")
    Path("data/panels/alfworld").mkdir(parents=True)
    tasks = [task(n, panel="dev", step_faults=faults) for n, faults in ((1, 0), (2, 0), (3, 2))]
    write_panels(Path("data/panels/alfworld"), "alfworld", "generated", {"dev": tasks})
    bank = [
        BankEntry(SCHEMA_VERSION, f"b{n}", "alfworld", "react", "put", text, 2, n, ["h", "i"], ["e", "f"])
        for n, text in enumerate(["Climb {object}.", "Go up."], 1)
    ]
    write(Path("data/hints/alfworld_react/bank.parquet"), BankEntry, bank)
    world = World()
    monkeypatch.setattr("stages.commands.play.make", lambda env, root: world.make())
    return world


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Command:
    """`python -m stages play --env alfworld ...` with these lines as input."""

    def command(*options: str, lines: str = "", env: str = "alfworld") -> int:
        monkeypatch.setattr(sys, "argv", ["stages", "play", "--env", env, *options])
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        return main()

    return command


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Stands in for the model that params.yaml names."""
    fake = FakeEngine(up)
    monkeypatch.setattr("stages.commands.watch.open_engine", lambda settings, cell, adapter: fake)
    return fake


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


# A person plays


def test_a_person_plays_to_the_end(world: World, play: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert play(lines="up\nup\nnever read\n") == 0
    said = capsys.readouterr().out
    assert "climb 2" in said and "A ladder. Your task is to: climb 2" in said
    assert said.index("> up") < said.index("You stand on rung 1.") < said.index("You stand on rung 2.")
    assert said.endswith("solved: reward 1.00, 2 steps, 0 refused\n\n") and "never read" not in said


def test_a_refused_action_is_said_and_counted(world: World, play: Command, capsys: pytest.CaptureFixture[str]) -> None:
    play(lines="fly\n\n")
    said = capsys.readouterr().out
    assert "Refused: Nothing happens." in said
    assert "not solved: reward 0.00, 1 step, 1 refused" in said, "an empty line is no action"


def test_a_question_mark_lists_what_is_admissible_now(
    world: World, play: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    play(lines="up\n?\nquit\n")
    said = capsys.readouterr().out
    assert "up from 1\nlook\n" in said and "up from 0" not in said
    assert "1 step," in said


@pytest.mark.parametrize("lines", ["up\n", "up\nquit\n"])
def test_the_end_of_the_input_ends_a_game_like_quit(
    world: World, play: Command, capsys: pytest.CaptureFixture[str], lines: str
) -> None:
    assert play(lines=lines) == 0
    assert "not solved: reward 0.00, 1 step, 0 refused" in capsys.readouterr().out


def test_a_task_is_named_by_its_place_or_its_id(
    world: World, play: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("1", "t2"):
        play("--task", name)
    assert world.resets == ["t2", "t2"]


def test_a_person_is_shown_the_hints_of_rag(world: World, play: Command, capsys: pytest.CaptureFixture[str]) -> None:
    play("--hints")
    said = capsys.readouterr().out
    assert "Climb {object}.  [b1, from 2 failures]" in said and "Go up.  [b2, from 2 failures]" in said


def test_output_that_is_no_terminal_is_plain_text(
    world: World, play: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    play(lines="fly\n")
    assert "\x1b" not in capsys.readouterr().out


def test_a_line_is_completed_to_the_actions_offered_now() -> None:
    offers = ["click[Back to Search]", "click[Buy Now]"]
    complete_from(lambda: offers)
    complete = readline.get_completer()
    assert complete is not None
    assert [complete("click[b", n) for n in range(3)] == [*offers, None]
    offers[:] = ["search[<words>]"]
    assert [complete("s", n) for n in range(2)] == ["search[", None]


# An agent plays


def test_a_models_choice_of_hints_is_watched_and_is_no_turn(
    world: World, play: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(
        text.replace("  retrieval: rank ", "  retrieval: llm ").replace("  k: 3 ", "  k: 1 ")
    )
    for reply, shown in (("2", "Go up."), ("Action: up", "by rank")):
        engine = FakeEngine(lambda m, reply=reply: reply if "numbered list" in m[0].content else up(m))
        monkeypatch.setattr("stages.commands.watch.open_engine", lambda settings, cell, adapter, made=engine: made)
        assert play("--system", "rag") == 0
        said = capsys.readouterr().out
        assert shown in said and said.count("I climb.") == 2
        assert "Climb {object}." not in said or reply != "2"
    assert play("--hints") == 1
    assert (
        "hints.retrieval is llm: the agent's model picks its hints; watch it with --system rag"
        in capsys.readouterr().err
    )


def test_an_agent_is_watched_turn_by_turn(
    world: World, play: Command, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play("--system", "rag") == 0
    said = capsys.readouterr().out
    order = ["rag (agent react", "A ladder.", "Climb {object}.", "I climb.", "rung 1.", "I climb.", "rung 2.", "solved"]
    place = 0
    for words in order:
        place = said.index(words, place) + 1
    assert "reward 1.00, 2 steps" in said and "tiny@abababababab" in said
    spent = sum(len(m.content.split()) for prompt in engine.prompts for m in prompt)
    assert f"= {spent:,} prompt" in said
    assert "Climb {object}." in engine.prompts[0][0].content, "the agent is shown what is printed"


def test_a_reply_without_action_is_shown_as_that(
    world: World, play: Command, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.answer = lambda messages: "I would \x1b[2J rather not."
    play("--system", "base")
    said = capsys.readouterr().out
    assert (
        "none shown" in said
        and "nothing: no line that begins with Action:" in said
        and "refused  Nothing happens." in said
    )
    assert "repeated: the same reply came too often" in said
    assert "\x1b" not in said, "a reply must not steer the terminal"


def test_an_agent_that_is_asked_again_is_watched_at_that(
    world: World, play: Command, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    params = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(params.replace("corrections: 0", "corrections: 1"), encoding="utf-8")
    engine.answer = lambda messages: up(messages) if len(messages) > 2 else "Hm."
    assert play("--system", "base") == 0
    said = capsys.readouterr().out
    assert "asked    No action could be read in that reply." in said
    assert said.count("sees  ") == 2 and said.count("tokens  ") == 4, "three turns and the sum"


def test_turns_are_counted_on_when_the_prompt_outgrows_the_window(
    world: World, play: Command, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.answer, engine.window = (lambda messages: f"Action: fly {len(engine.prompts)}"), 60
    play("--system", "base")
    said = capsys.readouterr().out
    assert "window   the prompt has outgrown the model's window" in said
    assert " 19 does" in said and "turn_limit" in said


def test_watching_leaves_nothing_behind(
    world: World, play: Command, engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(tmp_path)
    assert play("--system", "base") == 0
    assert files(tmp_path) == before and not engine.open_sessions


def test_no_progress_bar_runs_through_what_is_watched(
    world: World,
    play: Command,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert play("--system", "base") == 0
    assert terminal.getvalue() == ""


def test_a_broken_environment_ends_it_as_the_machines_failure(
    world: World, play: Command, engine: FakeEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play("--system", "base", "--task", "2") == 1
    said = capsys.readouterr().out
    assert "t3: step_faults" in said and "no evidence about the agent" in said


def test_an_engine_that_fails_ends_it_as_the_machines_failure(
    world: World,
    play: Command,
    engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(engine, "poll", lambda: [Reply(engine.opened, "", "fault", 0, 0, 0, "HTTP 500 oh")])
    assert play("--system", "base") == 1
    said = capsys.readouterr().out
    assert said.count("engine   HTTP 500 oh") == 2, "it is tried twice"
    assert "no evidence about the agent" in said and "machine  HTTP 500 oh" in said


# What is not there


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--task", "3"), "the panel 'dev' has no task '3': give a place from 0 to 2, or an id such as t1"),
        (("--task", "nowhere"), "has no task 'nowhere'"),
        (("--panel", "prod"), "there is no panel 'prod', only dev"),
        (
            ("--system", "wizard"),
            "no system 'wizard', only base, rag, constant, random, rag_wrong, oracle, sft, distilled",
        ),
        (("--system", "sft", "--seed", "7"), "alfworld_react_sft_s7/adapter/adapter_model.safetensors: no such file"),
        (("--hints", "--agent", "act"), "alfworld_act/bank.parquet: no such file; run `dvc repro`"),
        (("--site", "http://127.0.0.1:1"), "--site is for --env webshop"),
    ],
)
def test_what_is_not_there_is_named(
    world: World, play: Command, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert play(*options) == 1
    assert said in capsys.readouterr().err


def test_without_panels_it_says_what_makes_them(
    world: World, play: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("data/panels")
    assert play() == 1
    assert "Build the panels: dvc repro panels" in capsys.readouterr().err


# On a site


@pytest.fixture
def site() -> Iterator[str]:
    with serve(LittleShop(), [WANTED]) as running:
        yield running.url


BOUGHT = "search[lumo]\nclick[B0LUMO0001]\nclick[black]\nclick[large]\nclick[Buy Now]\n"


def test_a_sites_goal_is_played_without_a_panel(
    world: World, play: Command, site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play("--site", site, env="webshop", lines=BOUGHT) == 0
    said = capsys.readouterr().out
    assert WANTED.instruction.split(",")[0] in said and "solved: reward 1.00, 5 steps, 0 refused" in said


def test_hints_on_a_site_need_the_panel_of_its_goal(
    world: World, play: Command, site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("data/panels/webshop")
    folder.mkdir()
    entry = BankEntry(SCHEMA_VERSION, "w1", "webshop", "act", "garden", "Choose {color}.", 1, 1, ["h"], ["e"])
    write(Path("data/hints/webshop_act/bank.parquet"), BankEntry, [entry])
    panels = {
        name: [Task(f"w-{name}", "webshop", name, "garden", goal, {"n": 0})]
        for name, goal in (("dev", "a mug"), ("test", WANTED.instruction))
    }
    write_panels(folder, "webshop", "generated", panels)
    assert play("--site", site, "--hints", env="webshop") == 1
    assert "the panel 'dev' has no goal" in capsys.readouterr().err
    assert play("--site", site, "--hints", "--panel", "test", env="webshop") == 0
    assert "Choose {color}.  [w1, from 1 failure]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--task", "9"), "404"), (("--task", "w1"), "number of one of the site's goals")],
)
def test_a_goal_that_a_site_has_not_is_named(
    world: World, play: Command, site: str, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert play("--site", site, *options, env="webshop") == 1
    assert said in capsys.readouterr().err


def test_what_is_no_address_is_said(world: World, play: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert play("--site", "shop", env="webshop") == 1
    assert "http://127.0.0.1:3000" in capsys.readouterr().err
