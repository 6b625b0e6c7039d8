"""Golden prompts: for each agent and environment a whole prompt as the chat template writes it, and an episode as it is read back.

`python tests/golden.py` writes them to tests/golden/ anew, after a change that is meant.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tiny import make_tokenizer

from stages.agents import get
from stages.agents.base import Agent
from stages.agents.shots import shots
from stages.core import plugins
from stages.core.records import Message
from stages.models.chat import Chat
from stages.models.conversation import Conversation

FOLDER = Path(__file__).parent / "golden"
HINTS = {
    "alfworld": (
        "Don't search a place twice; go on to the next place not visited yet.",
        "Only one thing fits in hand.",
    ),
    "webshop": ("Before click[Buy Now], click the {color} that the instruction names.",),
}
EPISODES = {"alfworld": ("heat", 1), "webshop": ("any", 0)}
"""The category of each golden episode, and its place among the examples."""


def cases() -> Iterator[tuple[str, Agent]]:
    """Every environment with every agent."""
    return ((env, get(name, env)) for env in EPISODES for name in plugins.names("agents"))


def golden(env: str, agent: Agent, tokenizer: Any) -> str:
    """The prompt with hints and one example, the whole conversation without either, and every reply as it is read; with token counts."""
    category, place = EPISODES[env]
    examples = plugins.environment(env).examples
    episode = shots(examples, category, place + 1)[place]
    first = agent.prompt(episode.opening, HINTS[env], shots(examples, category, 1)).messages()
    chat = Chat(tokenizer)
    prompt = chat.prompt(first)
    bare = agent.prompt(episode.opening, ())
    whole = [*bare.messages(), *agent.prompt("", (), [episode]).shots[1:-1]]
    replies = [asdict(agent.parse(m.content)) for m in whole if m.role == "assistant"]
    return "\n".join(
        [
            f"=== first prompt, hints and one example: {len(chat.encode(prompt))} tokens",
            prompt,
            f"=== the same episode without them, to its last reply: {length(chat, whole)} tokens",
            chat.prompt(whole, reply_next=False),
            "=== its replies, read",
            *(json.dumps(reply, ensure_ascii=False) for reply in replies),
            "",
        ]
    )


def length(chat: Chat, messages: Sequence[Message]) -> int:
    """Tokens of a conversation, as an engine holds them when the last reply is written."""
    talk = Conversation()
    talk.ask(chat, messages[:-1])
    talk.answer(chat, messages[-1].content)
    return len(talk.ids)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    tokenizer = make_tokenizer()
    for env, agent in cases():
        (FOLDER / f"{env}_{agent.name}.txt").write_text(golden(env, agent, tokenizer), encoding="utf-8")
