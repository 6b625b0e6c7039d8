"""Games in the layout of the official ALFWorld data, in the grammar of either release, made by this project's generator."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stages.envs.alfworld import TASK_TYPE
from stages.panelling.alfworld.generator import Game, Goal, generate_game, possible_goals

Content = dict[str, Any]

HELP = "\\nAvailable commands:\\n  look:                             look around your current location\\n"
_OLD_WORDS = {
    "move {o} to {r}": "put {o} in/on {r}",
    "You move the {o.name} to the {r.name}.": "You put the {o.name} in/on the {r.name}.",
    "You arrive at {r.name}.": "You arrive at {lend.name}.",
}


def of_release_1(content: Content) -> Content:
    """A game as json_2.1.1 has it: `put X in/on Y`, `You arrive at loc 7`, and no help."""
    grammar, domain = content["grammar"].split("action help")[0], content["pddl_domain"].split("(:action help")[0] + ")"
    for new, old in _OLD_WORDS.items():
        assert new in grammar
        grammar = grammar.replace(new, old)
    return content | {"grammar": grammar, "pddl_domain": domain, "walkthrough": _old_walkthrough(content)}


def of_release_2(content: Content) -> Content:
    """A game as json_2.1.2 has it: `move X to Y`, help in plain text, and a walkthrough in the words of old."""
    grammar = content["grammar"].split("action help")[0]
    grammar += f'action help {{\n    template :: "help";\n    feedback :: "{HELP}";\n}}\n'
    return content | {"grammar": grammar, "walkthrough": _old_walkthrough(content)}


def _old_walkthrough(content: Content) -> list[str]:
    """Official walkthroughs are in the words of json_2.1.1 in either release."""
    return [re.sub(r"^move (.*) to ", r"put \1 in/on ", command) for command in content["walkthrough"]]


def goals(category: str, number: int, unseen: bool = False) -> list[Goal]:
    """Some goals of a category, each with another object, in seen or unseen scenes."""
    by_object = {goal.object: goal for goal in possible_goals(TASK_TYPE[category], unseen)}
    return list(by_object.values())[:number]


def game_of(goal: Goal, trial: int = 0) -> Game:
    """A game with this goal; another trial furnishes the room anew."""
    return generate_game(1, "official", goal.task_type, trial, False, [goal])


def content_of(game: Game) -> Content:
    content: Content = json.loads(game.files["game.tw-pddl"])
    return content


def write_official(
    root: Path, splits: Mapping[str, Mapping[Goal, int]], form: Callable[[Content], Content] = of_release_2
) -> Path:
    """Write a tree `<split>/<goal>/<trial>/game.tw-pddl` with that many trials for each goal; returns `root`."""
    for split, trials in splits.items():
        for goal, number in trials.items():
            for trial in range(number):
                game = game_of(goal, trial)
                path = root / split / game.path.parts[1] / f"trial_T20190907_{trial:06d}_{trial:06d}" / "game.tw-pddl"
                path.parent.mkdir(parents=True)
                path.write_text(json.dumps(form(content_of(game))), encoding="utf-8")
    return root


def alter(path: Path, **parts: Any) -> None:
    """Give a written game other parts; None takes one out."""
    content = {k: v for k, v in (json.loads(path.read_text()) | parts).items() if v is not None}
    path.write_text(json.dumps(content), encoding="utf-8")
