"""What is said of an episode: its task, the hints shown, each turn, the outcome. The same for a recorded one and a live one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages.agents import get
from stages.agents.base import Agent, Decision
from stages.core.records import FAULTS, STOPS, Episode, Part, Turn
from stages.envs.base import Task
from stages.stats.systems import billed
from stages.viewing.terminal import Row, labelled, plain, say


def task_rows(of: Task | Episode) -> list[Row]:
    """What is to be done."""
    kind = f"category {of.category}" + (f", skill {of.skill}" if of.skill != of.category else "")
    return [("task", f"{of.task_id} (panel {of.panel})"), ("goal", Text(plain(of.goal), "bold")), ("kind", kind)]


def system_rows(system: str, seed: int, agent: str, model: str, engine: str) -> list[Row]:
    """Who plays."""
    return [
        ("system", Text(f"{system} (agent {agent}, seed {seed})", "bold")),
        ("model", model),
        ("engine", engine),
    ]


def hint_rows(ids: Sequence[str], texts: Sequence[str], failures: Mapping[str, int]) -> list[Row]:
    """The hints shown, each with its bank entry and how many failures that came from (`failures`, by the entry's id)."""
    rows: list[Row] = []
    for number, (entry, text) in enumerate(zip(ids, texts, strict=True), 1):
        count = failures.get(entry)
        source = "not in the present bank" if count is None else f"from {count} failure{'s' * (count != 1)}"
        source = "added by hand" if count == 0 else source
        rows.append((f"hint {number}", Text.assemble(plain(text), (f"  [{entry}, {source}]", "dim"))))
    return rows or [("hints", "none shown")]


def reply_rows(read: Decision, finish: str) -> list[Row]:
    """A reply as it was read."""
    rows: list[Row] = [("state", Text(plain(f"{name}: {text}"), "dim")) for name, text in read.state.items()]
    if read.thought:
        rows.append(("says" if read.fault else "thinks", read.thought))
    unread = Text(f"nothing: {FAULTS.get(read.fault, read.fault)}", "yellow")
    rows.append(("does", unread if read.fault else Text(plain(read.action), "bold")))
    return [*rows, ("", Text("the reply was cut at its token limit", "yellow"))] if finish == "length" else rows


def seen_row(observation: str, valid: bool) -> Row:
    """What came of an action."""
    return ("sees", observation) if valid else ("refused", Text(plain(observation), "red"))


def tokens_row(prompt_tokens: int, computed_tokens: int, reply_tokens: int) -> Row:
    """What a turn took."""
    return "tokens", Text(f"{prompt_tokens:,} prompt ({computed_tokens:,} computed) + {reply_tokens:,} reply", "dim")


def turn_rows(turn: Turn, agent: Agent) -> list[Row]:
    """A recorded turn of an agent."""
    said = Decision(turn.thought, turn.action, agent.parse(turn.reply).state, turn.fault)
    left_out = [("window", f"the first {turn.elided} turns are left out of the prompt")] if turn.elided else []
    seen = ("asked", turn.observation) if turn.asked_again else seen_row(turn.observation, turn.valid)
    taken = tokens_row(turn.prompt_tokens, turn.computed_tokens, turn.reply_tokens)
    return [*left_out, *reply_rows(said, turn.finish), seen, taken]


def verdict(success: bool, reward: float, steps: int, refused: int) -> Text:
    """How it went, in one line."""
    said = Text("solved", "bold green") if success else Text("not solved", "bold red")
    return said + f": reward {reward:.2f}, {steps} step{'s' * (steps != 1)}, {refused} refused"


def parts_of(parts: Sequence[Part]) -> str:
    """What the reward is made of, in one line."""
    named = [part for part in parts if part.name != "reward"]
    return ", ".join(f"{part.name.replace('_', ' ')} {part.value:g}" for part in named)


def outcome_rows(episode: Episode) -> list[Row]:
    """How it ended, and what it took."""
    rows: list[Row] = [("outcome", verdict(episode.success, episode.reward, episode.steps, episode.refused))]
    if episode.parts:
        rows.append(("parts", parts_of(episode.parts)))
    rows.append(("stop", f"{episode.stop}: {STOPS.get(episode.stop, '')}"))
    if episode.machine_failure:
        rows.append(("machine", Text(plain(episode.machine_failure), "red")))
    if episode.retrieve_fault:
        rows.append(
            (
                "hints",
                Text(plain(f"by rank: the model's choice could not be read ({episode.retrieve_fault})"), "yellow"),
            )
        )
    spent = f"{episode.prompt_tokens:,} prompt + {episode.reply_tokens:,} reply + {episode.retrieve_tokens:,} retrieval"
    return [*rows, ("tokens", f"{billed(episode):,} = {spent}; computed {episode.computed_tokens:,}")]


def player_rows(episode: Episode) -> list[Row]:
    """Who played, and under which id that is recorded."""
    rows = system_rows(episode.system, episode.seed, episode.agent, episode.model, episode.engine)
    return [*rows, ("episode", episode.episode_id)]


def show_one(console: Console, episode: Episode, failures: Mapping[str, int]) -> None:
    """A whole episode, from top to bottom; `failures` as in `hint_rows`."""
    say(console, labelled([*task_rows(episode), *player_rows(episode)]))
    say(console, labelled(hint_rows(episode.hint_ids, episode.hints, failures)))
    say(console, labelled([("opening", episode.opening)]))
    agent = get(episode.agent, episode.env)
    for number, turn in enumerate(episode.turns, 1):
        say(console, labelled(turn_rows(turn, agent), number))
    say(console, labelled(outcome_rows(episode)))


def show_two(console: Console, episodes: tuple[Episode, Episode], failures: Mapping[str, int]) -> None:
    """Two episodes of a task beside each other, turn by turn."""
    one, two = episodes
    opening = one.opening or two.opening  # one that the machine broke off may have none
    say(console, labelled([*task_rows(one), ("opening", opening)]))
    table = Table(box=box.MINIMAL, expand=True, show_header=False, leading=1)
    table.add_column(width=2, justify="right", style="bold")
    for _ in episodes:
        table.add_column(ratio=1, overflow="fold")
    table.add_row("", *(labelled(player_rows(e)) for e in episodes))
    table.add_row("", *(labelled(hint_rows(e.hint_ids, e.hints, failures)) for e in episodes))
    for number, turns in enumerate(zip_longest(one.turns, two.turns), 1):
        cells = [labelled(turn_rows(t, get(e.agent, e.env))) if t else "" for t, e in zip(turns, episodes, strict=True)]
        table.add_row(str(number), *cells)
    table.add_row("", *(labelled(outcome_rows(e)) for e in episodes))
    say(console, table, console.width)
