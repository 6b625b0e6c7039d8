"""`python -m stages play`: a task of a panel, played by a person in the terminal, or by an agent while one watches.

    python -m stages play --env alfworld --task 3
    python -m stages play --env alfworld --panel test --task 3 --system distilled
    python -m stages play --model models:/hintdistill-alfworld-react-distilled@champion
    python -m stages play --env webshop --site http://127.0.0.1:3000 --task 0

Nothing is recorded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from stages.core import plugins
from stages.core.arms import SYSTEMS
from stages.core.params import Cell, Settings, load
from stages.core.process import Fault
from stages.core.records import Part
from stages.envs.base import Environment, Task
from stages.envs.panel import PanelError, load_panel
from stages.envs.registry import make
from stages.envs.webshop.sessions import SEARCH_ACTION
from stages.retrieval.retriever import Retrieved, Retriever, Start, open_retriever
from stages.site.remote import RemoteShop
from stages.viewing.episodes import failures_behind
from stages.viewing.pages import hint_rows, parts_of, task_rows, verdict
from stages.viewing.terminal import labelled, open_console, plain, say

if TYPE_CHECKING:  # it brings torch along
    from stages.runner.study import System

DATA = Path("data")
_HELP = "Type an action; ? lists what is admissible, Tab completes it, quit or Ctrl-D ends."
BY_CATEGORY = ("rag", "rag_wrong")  # retrievals that need the task's category


class PlayError(Fault, RuntimeError):
    """What was asked for can't be played: says why."""


def add_parser(commands: Any) -> None:
    """The command's own arguments."""
    parser = commands.add_parser(
        "play",
        help="play a task in the terminal, or watch an agent play it",
        description="Play a task yourself, or with --system watch an agent play it. Nothing is recorded.",
    )
    parser.add_argument("--env", choices=plugins.names("envs"), help="needed but with --model, which knows its own")
    parser.add_argument("--panel", default="dev", help="train, dev, test or test_seen (default: dev)")
    parser.add_argument("--task", default="0", help="place in the panel, from 0, or a task id (default: 0)")
    parser.add_argument("--hints", action="store_true", help="show the hints that the system rag would be shown")
    parser.add_argument("--system", help=f"who plays instead of you: one of {', '.join(SYSTEMS)}", metavar="NAME")
    parser.add_argument(
        "--model", metavar="models:/NAME@champion", help="a registered student plays, from MLflow's registry"
    )
    parser.add_argument("--agent", choices=plugins.names("agents"), help="whose bank or student (default: the cell's)")
    parser.add_argument("--seed", type=int, default=0, help="the student's training seed (default: 0)")
    parser.add_argument(
        "--site",
        metavar="URL",
        help="play on a WebShop site, the official one or `python -m stages shop`; task n is then the site's goal n",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Play one task; 1 when the machine broke it off.

    Raises `PlayError`, `SettingsError`, `PanelError`, `RecordError` or `EnvironmentFault` when something it needs is missing or
    broken.
    """
    settings, console = load(), open_console()
    if args.model:
        with tempfile.TemporaryDirectory() as folder:
            cell, system = _registered(args, Path(folder))
            return _watch(console, settings, cell, system, args)
    if not args.env:
        raise PlayError("say what to play in: --env, or --model for a registered student")
    agent = args.agent or _agent_of(settings, args.env)
    if args.system:
        from stages.evaluate import system_of  # brings torch along, which a person's game does without

        cell = Cell(f"{args.env}_{agent}")
        return _watch(console, settings, cell, system_of(cell, args.system, args.seed), args)
    task, make_env, _ = _game(args, args.env, args.hints)
    retriever = _retriever(settings, Cell(f"{task.env}_{agent}")) if args.hints else None
    say(console, labelled(task_rows(task)))
    play(console, make_env(), task, retriever, agent)
    return 0


def _retriever(settings: Settings, cell: Cell) -> Retriever:
    """What chooses the hints that the system rag would be shown. Raises `PlayError` where a model would have to choose: nobody but it knows."""
    if settings.hints.retrieval == "llm":
        raise PlayError("hints.retrieval is llm: the agent's model picks its hints; watch it with --system rag")
    return open_retriever("rag", cell, settings.hints, 0)


def _game(args: argparse.Namespace, env: str, hinted: bool) -> tuple[Task, Callable[[], Environment], str]:
    """The task that is asked for, what makes its environment, and its panel's hash, which a site's goal has none of. `hinted`: whether its category's
    hints are called for."""
    if args.site:
        return *_on_site(args, env, hinted), ""
    root = DATA / "panels" / env
    tasks, panel_sha256 = load_panel(root, args.panel)
    return pick(tasks, args.panel, args.task), lambda: make(env, root), panel_sha256


def _watch(console: Console, settings: Settings, cell: Cell, system: System, args: argparse.Namespace) -> int:
    from stages.commands.watch import watch

    task, make_env, panel_sha256 = _game(args, cell.env, system.retrieval in BY_CATEGORY)
    say(console, labelled(task_rows(task)))
    return watch(console, settings, cell, system, task, panel_sha256, make_env)


def _registered(args: argparse.Namespace, folder: Path) -> tuple[Cell, System]:
    """The registered student that is asked for, and its cell. Raises `PlayError` where it adapts another model than the one here."""
    from stages.runner.study import System, model_id
    from stages.tracking.models import fetch  # brings mlflow along

    student = fetch(args.model, folder)
    if args.system or args.env not in (None, student.env) or args.agent not in (None, student.agent):
        raise PlayError(
            f"{args.model} is a {student.arm} student of {student.env} and {student.agent}: leave out --system, --env and --agent"
        )
    if student.base != model_id(None):
        raise PlayError(
            f"{args.model} adapts {student.base}, and data/base/model is {model_id(None)}; check out the study that it is of"
        )
    return Cell(f"{student.env}_{student.agent}"), System(
        student.arm, SYSTEMS[student.arm].retrieval, student.folder, student.seed
    )


def play(console: Console, env: Environment, task: Task, retriever: Retriever | None = None, agent: str = "") -> None:
    """A person's game, until it is done or the input ends; with the hints that the agent would be shown, if there is a `retriever`."""
    seen = env.reset(task)
    if retriever:
        hints = retriever.retrieve(Start(task.task_id, task.category, task.goal, seen.text))
        if isinstance(hints, Retrieved):
            say(console, labelled(hint_rows(hints.entry_ids, hints.texts, failures_behind(task.env, agent))))
    steps = refused = 0
    complete_from(lambda: seen.admissible)
    say(console, Text(plain(seen.text)))
    say(console, Text(_HELP, "dim"))
    while not seen.done and (action := _ask()) is not None:
        if action == "?":
            say(console, Text(plain("\n".join(seen.admissible))))
        elif action:
            seen = env.step(action)
            steps, refused = steps + 1, refused + (not seen.valid)
            said = Text(plain(seen.text))
            say(console, said if seen.valid else Text("Refused: ", "red") + said)
    success = seen.done and seen.reward == 1.0
    say(console, verdict(success, seen.reward if seen.done else 0.0, steps, refused))
    if seen.parts:
        say(console, labelled([("parts", parts_of([Part(name, value) for name, value in seen.parts.items()]))]))


def _ask() -> str | None:
    """The next action, or None when there will be none."""
    try:
        action = input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None
    if not sys.stdin.isatty():
        print(action)  # as a terminal would have shown it
    return None if action == "quit" else action


def complete_from(offers: Callable[[], Sequence[str]]) -> None:
    """Let Tab complete a line to one of the actions offered at that moment, whatever the case of its letters."""
    try:
        import readline
    except ImportError:  # a Python built without it reads plain lines
        return

    def complete(text: str, state: int) -> str | None:
        found = [_typed(offer) for offer in offers() if offer.lower().startswith(text.lower())]
        return found[state] if state < len(found) else None

    readline.set_completer_delims("")
    readline.set_completer(complete)
    if "libedit" in (readline.__doc__ or ""):
        readline.parse_and_bind("bind ^I rl_complete")
    else:
        readline.parse_and_bind("tab: complete")
        readline.parse_and_bind("set completion-ignore-case on")


def _typed(offer: str) -> str:
    """What of an offered action is there to type: its placeholder is the person's to fill."""
    return "search[" if offer == SEARCH_ACTION else offer


def pick(tasks: Sequence[Task], panel: str, wanted: str) -> Task:
    """The task at a place, from 0, or of an id. Raises `PanelError` when the panel has none such."""
    if wanted.isdecimal() and int(wanted) < len(tasks):
        return tasks[int(wanted)]
    for task in tasks:
        if task.task_id == wanted:
            return task
    raise PanelError(
        f"the panel {panel!r} has no task {wanted!r}: give a place from 0 to {len(tasks) - 1}, or an id such as "
        f"{tasks[0].task_id}"
    )


def _agent_of(settings: Settings, env: str) -> str:
    """The agent that params.yaml studies in an environment."""
    agents = [cell.agent for cell in settings.axes.cells if cell.env == env]
    if not agents:
        raise PlayError(f"axes.cell in params.yaml has no agent for {env}; name one with --agent")
    return agents[0]


def _on_site(args: argparse.Namespace, env: str, hinted: bool) -> tuple[Task, Callable[[], Environment]]:
    """A site's goal as a task. The hints for it are those of its department, which only the panel's task of that goal tells."""
    if env != "webshop" or not args.task.isdecimal():
        raise PlayError("--site is for --env webshop, with the number of one of the site's goals as --task")
    try:
        shop = RemoteShop(args.site)
    except ValueError as error:
        raise PlayError(str(error)) from error
    session = f"fixed_{args.task}"
    goal, category = shop.instruction(session), "unknown"
    if hinted:
        tasks, _ = load_panel(DATA / "panels" / env, args.panel)
        known = [task.category for task in tasks if task.goal == goal]
        if not known:
            raise PlayError(
                f"the panel {args.panel!r} has no goal {goal!r}, so its hints are unknown; name its --panel"
            )
        category = known[0]
    spec = {"session": session, "instruction": goal}
    return Task(session, env, "of the site", category, goal, spec), lambda: shop
