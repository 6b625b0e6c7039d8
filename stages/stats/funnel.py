"""From failures to lessons, counted: a row of `metrics/funnel.json` for an environment and agent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from stages.core.arms import Retrieval, teacher_name
from stages.core.records import BankEntry, Episode, Hint, Lesson, Rejection
from stages.stats.systems import Overlap, Panel, Share, Study, billed, by_skill, check_panel, usable


@dataclass(frozen=True)
class LessonSet:
    """One arm's lessons with the gates they passed: `checked` and `failed` by gate, dropped episodes by reason."""

    lessons: Sequence[Lesson]
    gates: Mapping[str, Mapping[str, int]]
    dropped: Mapping[str, int]


@dataclass(frozen=True)
class FunnelRow:
    """Counts along the way from failure to lesson, all on the train panel.

    `episodes` and `failures` are the base agent's, machine failures left out. `recovered` are tasks it failed and the
    hinted teacher solved, `lost` the reverse. `skills` is by agent (`base`, `teacher`, and where arms need others `teacher_random`), then known or withheld.
    `curated` of the bank's entries were added or rewritten by hand. `hint_basis` says what the hint writer saw of a failure; `rejected` counts what the gate of hints turned away, by reason.
    `rules`: by the hint writer's rule, the hints written, the teacher episodes that were shown one (through its bank
    entry), and how many of these succeeded; an episode is shown several rules, so the columns do not add up. `lessons`,
    `lesson_tokens`, `trained_tokens`, `gates` and `dropped` are by arm. `tokens` are billed totals over all episodes of
    these plays, and `write` what a model wrote the hints with (`dollars`: its price, 0 without one); `student_epochs` is how often
    training passes over the lesson tokens, but for the arm `on_policy`, which has a number of its own. `max_turns`, `k`, `overlaps` and `left_out` are the study's. `matched` says in what all arms were cut to the
    smallest one: `lessons`, `tokens` (trained ones), or empty where they were not.
    """

    env: str
    agent: str
    panel: str
    panel_sha256: str
    episodes: int
    base_successes: int
    failures: int
    hints: int
    bank: int
    curated: int
    teacher_episodes: int
    teacher_successes: int
    recovered: int
    lost: int
    machine_failures: dict[str, int]
    skills: dict[str, dict[str, Share]]
    withheld: list[str]
    strength: str
    hint_basis: str
    rejected: dict[str, int]
    rules: dict[str, dict[str, int]]
    lessons: dict[str, int]
    lesson_tokens: dict[str, int]
    trained_tokens: dict[str, int]
    gates: dict[str, dict[str, dict[str, int]]]
    dropped: dict[str, dict[str, int]]
    tokens: dict[str, int]
    dollars: float
    student_epochs: int
    max_turns: int
    k: int
    overlaps: list[Overlap]
    left_out: dict[str, int]
    matched: str = ""


def funnel_row(
    panel: Panel,
    rollouts: Sequence[Episode],
    teacher: Sequence[Episode],
    hints: Sequence[Hint],
    bank: Sequence[BankEntry],
    rejected: Sequence[Rejection],
    arms: Mapping[str, LessonSet],
    study: Study,
    student_epochs: int,
    matched: str = "",
    others: Mapping[Retrieval, Sequence[Episode]] = MappingProxyType({}),
) -> FunnelRow:
    """Count the way from failures to lessons. `teacher` had the tasks' own hints, `others` chose theirs otherwise.

    Raises `ComparisonError` unless all plays cover `panel`, each task once.
    """
    controls = {teacher_name(way): episodes for way, episodes in others.items()}
    check_panel({"rollouts": rollouts, "teacher": teacher, **controls}, panel)
    played = {"base": rollouts, "teacher": teacher, **controls}
    first = rollouts[0]
    base, hinted = usable(rollouts), usable(teacher)
    solved, solved_hinted = ({e.task_id for e in plays if e.success} for plays in (base, hinted))
    both = {e.task_id for e in base} & {e.task_id for e in hinted}
    return FunnelRow(
        env=first.env,
        agent=first.agent,
        panel=first.panel,
        panel_sha256=first.panel_sha256,
        episodes=len(base),
        base_successes=len(solved),
        failures=len(base) - len(solved),
        hints=len(hints),
        bank=len(bank),
        curated=sum(entry.origin == "curated" for entry in bank),
        teacher_episodes=len(hinted),
        teacher_successes=len(solved_hinted),
        recovered=len((solved_hinted - solved) & both),
        lost=len((solved - solved_hinted) & both),
        machine_failures={who: len(found) - len(usable(found)) for who, found in played.items()},
        skills={who: by_skill(usable(found), study.withheld) for who, found in played.items()},
        withheld=sorted(study.withheld),
        strength=study.strength,
        hint_basis=study.hint_basis,
        rejected=dict(sorted(Counter(r.reason for r in rejected).items())),
        rules=rule_use(hints, bank, hinted),
        lessons={arm: len(s.lessons) for arm, s in arms.items()},
        lesson_tokens={arm: sum(x.tokens for x in s.lessons) for arm, s in arms.items()},
        trained_tokens={arm: sum(x.trained_tokens for x in s.lessons) for arm, s in arms.items()},
        gates={arm: {name: dict(counts) for name, counts in s.gates.items()} for arm, s in arms.items()},
        dropped={arm: dict(s.dropped) for arm, s in arms.items()},
        tokens={
            "rollouts": sum(map(billed, rollouts)),
            "teacher": sum(map(billed, teacher)),
            **{who: sum(map(billed, found)) for who, found in controls.items()},
            "write": study.write_tokens,
        },
        dollars=study.write_dollars,
        student_epochs=student_epochs,
        max_turns=study.max_turns,
        k=study.k,
        overlaps=list(study.overlaps),
        left_out=dict(study.left_out),
        matched=matched,
    )


def rule_use(hints: Sequence[Hint], bank: Sequence[BankEntry], teacher: Sequence[Episode]) -> dict[str, dict[str, int]]:
    """By rule: hints written, teacher episodes shown one of them, and successes among these."""
    rule_of = {h.hint_id: h.rule for h in hints}
    rules_of = {entry.entry_id: {rule_of[h] for h in entry.hint_ids if h in rule_of} for entry in bank}
    written = Counter(rule_of.values())
    shown: Counter[str] = Counter()
    succeeded: Counter[str] = Counter()
    for episode in teacher:
        rules = set().union(*(rules_of.get(entry, set()) for entry in episode.hint_ids))
        shown.update(rules)
        succeeded.update(rules if episode.success else ())
    return {r: {"hints": written[r], "shown": shown[r], "succeeded": succeeded[r]} for r in sorted(written)}
