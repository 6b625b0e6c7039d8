"""Plays tasks: as many episodes at once as the engine has slots, every task exactly once."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tqdm import tqdm

from stages.agents.base import Agent
from stages.agents.shots import shots
from stages.core import plugins
from stages.core.records import SCHEMA_VERSION, Episode, Message, Part, Turn
from stages.engines.base import Engine, Reply
from stages.envs.base import Environment, EnvironmentFault, Observation, Task
from stages.retrieval.retriever import Chooser, Question, Retrieved, Start
from stages.runner.journal import Journal

ATTEMPTS = 2  # at a task whose environment or session fails, before the failure is recorded as the machine's


@dataclass(frozen=True)
class Play:
    """What plays what: the columns that all episodes of a run share, and the limits. `panels` maps each panel's name to its
    hash; `max_turns` counts replies, `max_repeats` identical replies in a row that end an episode (the paper stops after 5); `shots` and
    `corrections` are as in params.yaml."""

    system: str
    seed: int
    panels: dict[str, str]
    model: str
    max_turns: int
    max_repeats: int
    shots: int
    corrections: int


@dataclass
class _Course:
    """How an episode has gone so far: what its record is made of."""

    task: Task
    category: str
    hints: Retrieved
    seen: Observation
    opening: str
    turns: list[Turn] = field(default_factory=list)


@dataclass(kw_only=True)
class _Live(_Course):
    """One running episode. `prompt` are its first messages; the first `elided` turns are left out of what follows them. As long as `question`
    is there, the model is asked that."""

    env: Environment
    prompt: list[Message] = field(default_factory=list)
    question: Question | None = None
    session: int = 0
    elided: int = 0

    def messages(self) -> list[Message]:
        """The conversation as the agent is shown it now."""
        *first, opening = self.prompt
        if self.elided:
            opening = Message(opening.role, f"{opening.content}\n\n(Your first {self.elided} turns are left out here.)")
        turns = self.turns[self.elided :]
        later = [m for t in turns for m in (Message("assistant", t.reply), Message("user", t.observation))]
        return [*first, opening, *later]


def play_tasks(
    tasks: Sequence[Task],
    play: Play,
    agent: Agent,
    engine: Engine,
    make_env: Callable[[], Environment],
    category: Callable[[Task], str],
    retriever: Chooser,
    journal: Journal,
) -> list[Episode]:
    """Episodes of all tasks, in the tasks' order; those the journal holds are not played again. `category` says what a task's hints and
    examples are chosen by."""
    rollout = Rollout(play, agent, engine, make_env, category, retriever, journal.key)
    return collect(tasks, play, journal, rollout.episodes)


def collect(
    tasks: Sequence[Task], play: Play, journal: Journal, episodes: Callable[[list[Task]], Iterable[Episode]]
) -> list[Episode]:
    """Episodes of all tasks, in the tasks' order. `episodes` plays those that the journal does not hold, the last of its list first; each goes
    to the journal as soon as it ends, but for the machine's failures, which another run may mend."""
    done = {e.task_id: e for e in journal.finished.values()}
    waiting = [task for task in tasks if task.task_id not in done][::-1]
    name = f"{play.system} on {' and '.join(play.panels)}"
    with tqdm(total=len(tasks), initial=len(done), desc=name, unit="episode", disable=None) as bar:
        for episode in episodes(waiting):
            done[episode.task_id] = episode
            if not episode.machine_failure:
                journal.add(episode)
            bar.update()
            bar.set_postfix(successes=sum(e.success for e in done.values()))
    return [done[task.task_id] for task in tasks]


class Rollout:
    """The running episodes and the pool of environments they are played in."""

    def __init__(
        self,
        play: Play,
        agent: Agent,
        engine: Engine,
        make_env: Callable[[], Environment],
        category: Callable[[Task], str],
        retriever: Chooser,
        key: str,
    ) -> None:
        self.play, self.agent, self.engine, self.retriever, self.key = play, agent, engine, retriever, key
        self.make_env, self.category = make_env, category
        self.pool: list[Environment] = []
        self.live: dict[int, _Live] = {}
        self.attempts: dict[str, int] = {}

    def episodes(self, waiting: list[Task]) -> Iterator[Episode]:
        """Play all tasks of `waiting`, which empties; episodes come as they end."""
        while waiting or self.live:
            yield from self.advance(waiting)

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
            return self._failed(task, str(fault), waiting)
        category = self.category(task)
        live = _Live(task, category, Retrieved(), seen, seen.text, env=env)
        found = self.retriever.retrieve(Start(task.task_id, category, task.goal, seen.text))
        if isinstance(found, Question):
            live.question = found
            self._open(live, found.messages)
        else:
            self._begin(live, found)
        return []

    def _begin(self, live: _Live, hints: Retrieved) -> None:
        """The hints are known: ask for the agent's first reply."""
        live.question, live.hints = None, hints
        file, category = plugins.environment(live.task.env).examples, live.category
        examples = shots(file, category, self.play.shots) if self.play.shots else ()
        live.prompt = self.agent.prompt(live.opening, hints.texts, examples).messages()
        self._open(live, live.messages())

    def _open(self, live: _Live, messages: Sequence[Message]) -> None:
        """Give an episode a session and ask for its next reply."""
        part = "hints" if live.question else live.elided
        live.session = self.engine.open(_seed(self.play.seed, live.task, part))
        self.live[live.session] = live
        self.engine.submit(live.session, messages)

    def _close(self, live: _Live) -> None:
        self.engine.close(live.session)
        del self.live[live.session]

    def _answer(self, live: _Live, reply: Reply, waiting: list[Task]) -> list[Episode]:
        if reply.finish == "fault":
            self._close(live)
            self.pool.append(live.env)  # which is as good as ever
            return self._failed(live.task, reply.error, waiting)
        if live.question:
            self._close(live)
            tokens = reply.prompt_tokens + reply.reply_tokens
            too_long = "the question outgrew the model's window" if reply.finish == "context" else ""
            self._begin(live, live.question.chosen(reply.text, tokens, too_long))
            return []
        if reply.finish == "context":
            return self._elide(live)
        decision = self.agent.parse(reply.text)
        offered = list(live.seen.admissible)
        ask_again = bool(decision.fault) and self._corrections_left(live)
        if ask_again:
            text, valid = self.agent.correction(), False
        else:
            try:
                # A reply without an action is played as an empty command: refused by the environment, and a turn spent.
                live.seen = live.env.step(decision.action)
            except EnvironmentFault as fault:
                self._close(live)
                return self._failed(live.task, str(fault), waiting)
            text, valid = live.seen.text, live.seen.valid
        live.turns.append(
            Turn(
                prompt_tokens=reply.prompt_tokens,
                computed_tokens=reply.computed_tokens,
                elided=live.elided,
                reply=reply.text,
                reply_tokens=reply.reply_tokens,
                finish=reply.finish,
                thought=decision.thought,
                action=decision.action,
                fault=decision.fault,
                asked_again=ask_again,
                observation=text,
                valid=valid,
                admissible=offered,
            )
        )
        stop = self._stop(live)
        if stop:
            return [self._end(live, stop)]
        self.engine.submit(live.session, live.messages())
        return []

    def _corrections_left(self, live: _Live) -> bool:
        """Whether fewer replies in a row than may be were answered with a correction just before."""
        in_a_row = itertools.takewhile(lambda turn: turn.asked_again, reversed(live.turns))
        return len(list(in_a_row)) < self.play.corrections

    def _elide(self, live: _Live) -> list[Episode]:
        """The prompt has outgrown the window: go on without the older half of its turns. The last one stays, for what it
        shows is what the agent must answer; where it alone is too long, the episode ends."""
        more = (len(live.turns) - live.elided) // 2
        if not more:
            return [self._end(live, "context")]
        self._close(live)
        live.elided += more
        self._open(live, live.messages())
        return []

    def _stop(self, live: _Live) -> str:
        if live.seen.done:
            return "done"
        last = [turn.reply for turn in live.turns[-self.play.max_repeats :]]
        if len(last) == self.play.max_repeats and len(set(last)) == 1:
            return "repeated"
        return "turn_limit" if len(live.turns) >= self.play.max_turns else ""

    def _end(self, live: _Live, stop: str) -> Episode:
        self._close(live)
        self.pool.append(live.env)
        return self._episode(live, stop, "")

    def _failed(self, task: Task, failure: str, waiting: list[Task]) -> list[Episode]:
        """Try again from the start, or record the failure as the machine's. An environment that broke is used no more."""
        self.attempts[task.task_id] = self.attempts.get(task.task_id, 0) + 1
        if self.attempts[task.task_id] < ATTEMPTS:
            waiting.append(task)
            return []
        return [self.unplayed(task, failure)]

    def unplayed(self, task: Task, failure: str) -> Episode:
        """The record of a task that the machine failed at, and why."""
        nothing = Observation("", (), 0.0, False, False)
        return self._episode(_Course(task, self.category(task), Retrieved(), nothing, ""), "machine", failure)

    def _episode(self, course: _Course, stop: str, failure: str) -> Episode:
        play, task, turns, seen, hints = self.play, course.task, course.turns, course.seen, course.hints
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
            category_used=course.category,
            skill=task.skill,
            goal=task.goal,
            hint_ids=list(hints.entry_ids),
            hints=list(hints.texts),
            opening=course.opening,
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
            retrieve_fault=hints.fault,
        )


def _seed(seed: int, task: Task, part: int | str) -> int:
    """A seed for one session's draws, independent of when and beside whom it is played."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{task.task_id}|{part}".encode()).digest()[:6], "big")
