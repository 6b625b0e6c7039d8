"""A finished study of few games, by a tiny model that has learnt by heart to win the train games of one kind."""

from __future__ import annotations

from pathlib import Path

from by_heart import save_by_heart
from project import commit, run, start_repository

from stages import agents
from stages.core.records import Message
from stages.demonstrations.alfworld.explorer import Explorer
from stages.envs.panel import load_panel
from stages.envs.registry import make

SMALL = """
axes: {cell: [alfworld_react]}
panels: {webshop: {products: 60, sizes: {warmup: {plain: 0, options: 0}, train: &few {plain: 1, options: 0}, dev: *few, test: *few}}}
limit: {train: 30, dev: 4, test: 4}  # of train, the demo's own games
model: {source: model}
warmup: {enabled: false}
engine: {slots: 8, max_new_tokens: 64, context: 3000}
runner: {max_turns: {alfworld: 12}}
students: {alfworld: {max_tokens: 6000, epochs: 1}}
hints: {probe_steps: 20}
stats: {bootstrap: 100}
"""


def make_study(profile: str = SMALL) -> None:
    """Run the whole pipeline in the working directory, a copy of the project, and commit it."""
    Path("profiles/small.yaml").write_text(profile, encoding="utf-8")
    run("python", "-m", "stages", "profile", "small")
    run("python", "-m", "stages.panels", "--env", "alfworld")
    tasks, _ = load_panel(Path("data/panels/alfworld"), "train")
    save_by_heart(Path("model"), [won(n) for n, task in enumerate(tasks) if task.category == "put"])
    start_repository()
    run("dvc", "repro")
    commit("a finished study")


def won(task_number: int) -> list[Message]:
    """A train game as the explorer wins it, in ReAct's form, with thoughts that take few bytes."""
    root = Path("data/panels/alfworld")
    task = load_panel(root, "train")[0][task_number]
    env, agent = make("alfworld", root), agents.get("react", "alfworld")
    seen = env.reset(task)
    messages, explorer = agent.prompt(seen.text, ()).messages(), Explorer(seen.text)
    while not seen.done:
        _, action = explorer.decide()
        messages.append(Message("assistant", agent.render("On.", action, {}), train=True))
        seen = env.step(action)
        explorer.observe(action, seen.text)
        messages.append(Message("user", seen.text))
    return messages[:-1]
