"""The baseline: what the paper's code does. One episode at a time, in ALFWorld's own engine; at every turn transformers' `generate` encodes the
whole prompt again.

Behind the project's protocols, so that the runner plays it as it plays any engine: same tasks, prompts and limits, same records. Nothing of
`stages.envs.alfworld.engine` may be imported beside it, as that makes textworld itself faster.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, StoppingCriteriaList

from stages.core.records import Message
from stages.engines.base import Reply
from stages.envs.base import Observation, Task
from stages.models.chat import open_chat

BANNER = "-= Welcome to TextWorld, ALFRED! =-"
REFUSAL = "Nothing happens."


class SequentialEngine:
    """See `stages.engines.base.Engine`. A model by transformers as it comes, with its default attention."""

    slots = 1

    def __init__(
        self, base: Path, *, dtype: torch.dtype, context: int, max_new_tokens: int, stop: Sequence[str]
    ) -> None:
        self._model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=dtype).eval()
        self._chat = open_chat(base)
        self._tokenizer = self._chat.tokenizer
        self._context, self._max_new, self._stop = context, max_new_tokens, list(stop)
        self._messages: Sequence[Message] = ()
        self._session = 0
        self.name = f"transformers-{str(dtype).removeprefix('torch.')}"

    def open(self, seed: int) -> int:
        self._session += 1
        return self._session

    def submit(self, session: int, messages: Sequence[Message]) -> None:
        self._messages = messages

    def close(self, session: int) -> None:
        self._messages = ()

    @torch.inference_mode()
    def poll(self) -> list[Reply]:
        tokenizer = self._tokenizer
        prompt = torch.tensor([self._chat.encode(self._chat.prompt(self._messages))])
        length = prompt.shape[1]
        if length + self._max_new > self._context:
            return [Reply(self._session, "", "context", length, 0, 0)]
        out = self._model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=self._max_new,
            stopping_criteria=StoppingCriteriaList([self._stopped_after(length)]),
            pad_token_id=tokenizer.pad_token_id,
        )
        written = out[0, length:].tolist()
        ended = written[-1] == tokenizer.eos_token_id
        text = tokenizer.decode(written[: len(written) - ended])
        cut = min((text.index(stop) for stop in self._stop if stop in text), default=None)
        finish = "stop" if ended or cut is not None else "length"
        return [Reply(self._session, text[:cut], finish, length, length, len(written))]

    def _stopped_after(self, length: int) -> Callable[..., torch.Tensor]:
        """Whether a stop string stands in what was written. generate's own `stop_strings` take the prompt's end for a part of it: a reply
        that begins with "Think:" after the header's line break would end at once by the stop string of a second thought."""

        def stopped(ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
            written = self._tokenizer.decode(ids[0, length:])
            return torch.tensor([any(stop in written for stop in self._stop)])

        return stopped


class StockEnvironment:
    """See `stages.envs.base.Environment`. textworld's engine under the wrappers that the released `AlfredTWEnv` puts around it."""

    def __init__(self, panel_root: Path, max_turns: int) -> None:
        os.environ.setdefault(
            "ALFWORLD_DATA", tempfile.gettempdir()
        )  # else alfworld makes a folder in the home directory
        import textworld
        from alfworld.agents.environment.alfred_tw_env import AlfredDemangler, AlfredInfos
        from textworld.envs.wrappers import Filter, GenericEnvironment, Limit

        if sys.version_info >= (3, 13):
            _mend()
        infos = textworld.EnvInfos(won=True, admissible_commands=True, extras=["gamefile"])
        limited = Limit(GenericEnvironment(infos), max_episode_steps=max_turns + 1)
        self._env: Any = Filter(AlfredInfos(AlfredDemangler(limited)))
        self._root = panel_root

    def load(self, task: Task) -> None:
        """Read a game; `reset` begins it."""
        self._env.load(str(self._root / task.spec["game"]))

    def begin(self) -> Observation:
        """The game's first observation."""
        text, infos = self._env.reset()
        return _observe(text.removeprefix(BANNER).strip(), infos)

    def reset(self, task: Task) -> Observation:
        self.load(task)
        return self.begin()

    def step(self, action: str) -> Observation:
        text, _, _, infos = self._env.step(action)
        return _observe(text, infos)


def _observe(text: str, infos: dict[str, Any]) -> Observation:
    won = bool(infos["won"])
    return Observation(text, tuple(infos["admissible_commands"]), float(won), won, text != REFUSAL)


def _mend() -> None:
    """textworld 1.7's expressions write to locals(), which does nothing from Python 3.13 on (PEP 667)."""
    from textworld.envs.pddl import textgen

    textgen.EvalSymbol.derive = lambda self, context=None: [
        textgen.TerminalSymbol(eval(self.expression, {}, (context or self.context)["variables"]))
    ]
