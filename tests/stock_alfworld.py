"""Walks through games, on textworld's own engine or on ours; run as a script for the former.

A process of its own, as our engine patches textworld: `python tests/stock_alfworld.py STEPS GAME...` prints one line a
game, the sha256 of all it showed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Shown = tuple[str, list[str], bool]
"""Text, admissible commands, won."""

REFUSED = ("put foo in/on bar", "go to fridge  1", "Look", "look.", "")


def walk(game: Path, first: Shown, step: Callable[[str], Shown], steps: int) -> str:
    """The sha256 of all that the game shows: on the way to its goal, then over `steps` random commands, with commands
    in between that no game accepts."""
    rng, digest = random.Random(game.parent.name), hashlib.sha256(repr(first).encode())
    plan: list[str] = json.loads(game.read_text())["walkthrough"]
    shown = first
    for k in range(len(plan) + steps):
        if rng.random() < 0.1:
            digest.update(repr(step(rng.choice(REFUSED))).encode())
        shown = step(plan[k] if k < len(plan) else rng.choice(shown[1]))
        digest.update(repr(shown).encode())
    return digest.hexdigest()


def stock_digests(games: list[Path], steps: int) -> list[str]:
    """Digests of walks on textworld's PddlEnv under alfworld's wrapper, as `AlfredTWEnv` combines them."""
    os.environ.setdefault("ALFWORLD_DATA", tempfile.gettempdir())
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.envs import PddlEnv
    from textworld.envs.pddl import textgen

    if sys.version_info >= (3, 13):  # the stock engine does not run there without this
        textgen.EvalSymbol.derive = lambda self, context=None: [
            textgen.TerminalSymbol(eval(self.expression, {}, (context or self.context)["variables"]))
        ]

    def shown(state: Any) -> Shown:
        return state.feedback, list(state["admissible_commands"]), bool(state["won"])

    env = AlfredDemangler(PddlEnv(textworld.EnvInfos(won=True, admissible_commands=True)))
    digests = []
    for game in games:
        env.load(str(game))
        digests.append(walk(game, shown(env.reset()), lambda command: shown(env.step(command)[0]), steps))
    return digests


if __name__ == "__main__":
    print("\n".join(stock_digests([Path(p) for p in sys.argv[2:]], int(sys.argv[1]))))
