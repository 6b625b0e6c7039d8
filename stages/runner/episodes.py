"""Plays tasks: as many episodes at once as the engine has slots, every task exactly once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from stages.agents.base import Agent
from stages.engines.base import Engine, Reply
from stages.envs.base import Environment, EnvironmentFault, Observation, Task
from stages.hinting.retrieval import Retrieved, Retriever
from stages.records import SCHEMA_VERSION, Episode, Message, Part, Turn
from stages.runner.journal import Journal

ATTEMPTS = 2  # at a task whose environment fails, before the failure is recorded as the machine's


@dataclass(frozen=True)
class Play:
    """What plays what: the columns that all episodes of a run share, and the limits. `panels` maps each panel's name to its
    hash; `max_turns` counts replies, `max_repeats` identical replies in a row that end an episode (the paper stops after 5)."""

    system: str
    seed: int
    panels: dict[str, str]
    model: str
    max_turns: int
    max_repeats: int


@dataclass
class _Live:
    """One running episode."""

    task: Task
    env: Environment
    session: int
    hints: Retrieved
    seen: Observation
    opening: str
    messages: list[Message]
    turns: list[Turn] = field(default_factory=list)


def play_tasks(
    tasks: Sequence[Task],
    play: Play,
    agent: Agent,
    engine: Engine,
    make_env: Callable[[], Environment],
    retriever: Retriever,
    journal: Journal,
) -> list[Episode]:
    """Episodes of all tasks, in the tasks' order; those the journal holds are not played again."""
    rollout = _Rollout(play, agent, engine, make_env, retriever, journal)
    done = {e.task_id: e for e in journal.finished.values()}
    waiting = [task for task in tasks if task.task_id not in done][::-1]
    name = f"{play.system} on {' and '.join(play.panels)}"
    with tqdm(total=len(tasks), initial=len(done), desc=name, unit="episode", disable=None) as bar:
        while waiting or rollout.live:
            for episode in rollout.advance(waiting):
                done[episode.task_id] = episode
                if not episode.machine_failure:
                    journal.add(episode)
                bar.update()
                bar.set_postfix(successes=sum(e.success for e in done.values()))
    return [done[task.task_id] for task in tasks]


class _Rollout:
    """The running episodes and the pool of environments they are played in."""

    def __init__(
        self,
        play: Play,
        agent: Agent,
        engine: Engine,
        make_env: Callable[[], Environment],
        retriever: Retriever,
        journal: Journal,
    ) -> None:
        self.play, self.agent, self.engine, self.retriever, self.key = play, agent, engine, retriever, journal.key
        self.make_env = make_env
        self.pool: list[Environment] = []
        self.live: dict[int, _Live] = {}
        self.attempts: dict[str, int] = {}

    def advance(self, waiting: list[Task]) -> list[Episode]:
        """Fill free slots from the end of `waiting`, take the next replies, and return the episodes that ended."""
        ended = []
        while waiting and len(self.live) < self.engine.slots:
            ended += self._start(waiting.pop(), waiting)
        if self.live:
            for reply in self.engine.poll():
                ended += self._answer(self.live[reply.session], reply, waiting)
        return ended

    def _start(self, task: Task, waiting: list[Task]) -> list[Episode]:
        env = self.pool.pop() if self.pool else self.make_env()
        try:
            seen = env.reset(task)
        except EnvironmentFault as fault:
            return self._failed(task, fault, waiting)
        hints = self.retriever.retrieve(task.task_id, task.category)
        session = self.engine.open(_seed(self.play.seed, task))
        messages = self.agent.prompt(task.env, seen.text, hints.texts).messages()
        self.live[session] = _Live(task, env, session, hints, seen, seen.text, messages)
        self.engine.submit(session, messages)
        return []

    def _answer(self, live: _Live, reply: Reply, waiting: list[Task]) -> list[Episode]:
        if reply.finish == "context":
            return [self._end(live, "context")]
        decision = self.agent.parse(reply.text)
        offered = list(live.seen.admissible)
        try:
            # A reply without an action is played as an empty command: refused by the environment, and a turn spent.
            live.seen = live.env.step(decision.action)
        except EnvironmentFault as fault:
            self.engine.close(live.session)
            del self.live[live.session]
            return self._failed(live.task, fault, waiting)
        live.turns.append(
            Turn(
                reply.prompt_tokens,
                reply.computed_tokens,
                reply.text,
                reply.reply_tokens,
                reply.finish,
                decision.thought,
                decision.action,
                live.seen.text,
                live.seen.valid,
                offered,
            )
        )
        stop = self._stop(live)
        if stop:
            return [self._end(live, stop)]
        live.messages += [Message("assistant", reply.text), Message("user", live.seen.text)]
        self.engine.submit(live.session, live.messages)
        return []

    def _stop(self, live: _Live) -> str:
        if live.seen.done:
            return "done"
        last = [turn.reply for turn in live.turns[-self.play.max_repeats :]]
        if len(last) == self.play.max_repeats and len(set(last)) == 1:
            return "repeated"
        return "turn_limit" if len(live.turns) >= self.play.max_turns else ""

    def _end(self, live: _Live, stop: str) -> Episode:
        self.engine.close(live.session)
        del self.live[live.session]
        self.pool.append(live.env)
        return self._episode(live.task, live.hints, live.opening, live.turns, live.seen, stop, "")

    def _failed(self, task: Task, fault: EnvironmentFault, waiting: list[Task]) -> list[Episode]:
        """Try again in a fresh environment, or record the failure as the machine's. The broken one is dropped."""
        self.attempts[task.task_id] = self.attempts.get(task.task_id, 0) + 1
        if self.attempts[task.task_id] < ATTEMPTS:
            waiting.append(task)
            return []
        nothing = Observation("", (), 0.0, False, False)
        return [self._episode(task, Retrieved(), "", [], nothing, "machine", str(fault))]

    def _episode(
        self, task: Task, hints: Retrieved, opening: str, turns: list[Turn], seen: Observation, stop: str, failure: str
    ) -> Episode:
        play = self.play
        return Episode(
            schema_version=SCHEMA_VERSION,
            episode_id=hashlib.sha256(f"{self.key}|{task.task_id}".encode()).hexdigest()[:16],
            task_id=task.task_id,
            env=task.env,
            agent=self.agent.name,
            system=play.system,
            seed=play.seed,
            panel=task.panel,
            panel_sha256=play.panels[task.panel],
            category=task.category,
            skill=task.skill,
            goal=task.goal,
            hint_ids=list(hints.entry_ids),
            hints=list(hints.texts),
            opening=opening,
            turns=turns,
            success=seen.done and seen.reward == 1.0,
            reward=seen.reward if seen.done else 0.0,
            parts=[Part(name, float(value)) for name, value in seen.parts.items()],
            steps=len(turns),
            refused=sum(not t.valid for t in turns),
            stop=stop,
            prompt_tokens=sum(t.prompt_tokens for t in turns),
            reply_tokens=sum(t.reply_tokens for t in turns),
            computed_tokens=sum(t.computed_tokens + t.reply_tokens for t in turns),
            retrieve_tokens=hints.retrieve_tokens,
            model=play.model,
            engine=self.engine.name,
            machine_failure=failure,
        )


def _seed(seed: int, task: Task) -> int:
    """A seed for one episode's draws, independent of when and beside whom it is played."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{task.task_id}".encode()).digest()[:6], "big")
