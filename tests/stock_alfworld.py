"""Random walks through games, on textworld's own engine or on ours; run as a script for the former.

A process of its own, as our engine patches textworld: `python tests/stock_alfworld.py STEPS GAME...` prints one line a
game, the sha256 of all it showed.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import tempfile
from collections.abc import Callable
from typing import Any

Shown = tuple[str, list[str], bool]
"""Text, admissible commands, won."""


def walk(first: Shown, step: Callable[[str], Shown], steps: int, seed: str) -> str:
    """The sha256 of all that `steps` commands bring to light: mostly admissible ones, some that are refused."""
    rng, digest = random.Random(seed), hashlib.sha256(repr(first).encode())
    shown = first
    for _ in range(steps):
        refused = rng.random() < 0.1
        shown = step(rng.choice(["put foo in/on bar", "go to fridge  1", "Look"]) if refused else rng.choice(shown[1]))
        digest.update(repr(shown).encode())
    return digest.hexdigest()


def stock_digests(games: list[str], steps: int) -> list[str]:
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
        env.load(game)
        digests.append(walk(shown(env.reset()), lambda command: shown(env.step(command)[0]), steps, seed=game))
    return digests


if __name__ == "__main__":
    print("\n".join(stock_digests(sys.argv[2:], int(sys.argv[1]))))
