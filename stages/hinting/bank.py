"""The hint bank: near-identical hints of a category merged, counted and ranked."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from rapidfuzz import fuzz

from stages.core.records import SCHEMA_VERSION, BankEntry, Hint
from stages.hinting.curated import entry_id


def normalise(text: str) -> str:
    """Lower case, words apart by one blank, punctuation and numbers dropped; what stands in braces stays a word."""
    return " ".join(re.findall(r"\{?[a-z]+\}?", text.lower().replace("'", "")))


def placeholders(text: str) -> frozenset[str]:
    """The words in braces."""
    return frozenset(re.findall(r"\{[^{}]*\}", text.lower()))


def build_bank(hints: Iterable[Hint], merge_ratio: float, tiers: Mapping[str, int]) -> list[BankEntry]:
    """One ranked list of entries a category, categories in the order of the alphabet.

    Two wordings are one lesson if their normalised texts are more alike than `merge_ratio` (rapidfuzz's `ratio`, here from 0 to
    1) and they name the same placeholders: "{desklamp}" and "{floorlamp}" differ by few letters and mean different
    tools. The most frequent wording speaks for the entry.

    Rank: first the tier of the most specific rule among an entry's hints (`tiers`, see `HintRules`: a tool that won a game before a
    tool that was on offer, before a missing step, before all general advice), then the count, then the text. So general
    advice, which nearly every failure calls for, never crowds out the one lesson that says how the task is done.
    """
    by_category: dict[tuple[str, str, str], list[Hint]] = defaultdict(list)
    for hint in hints:
        by_category[hint.env, hint.agent, hint.category].append(hint)
    return [
        e
        for key in sorted(by_category)
        for e in _rank([_entry(c, tiers) for c in _merge(by_category[key], merge_ratio)])
    ]


def _merge(hints: Sequence[Hint], merge_ratio: float) -> list[list[Hint]]:
    """Clusters around the most frequent wordings: each wording joins the first cluster whose head is alike enough."""
    counts = Counter(hint.text for hint in hints)
    clusters: list[tuple[str, list[str]]] = []
    for text in sorted(counts, key=lambda t: (-counts[t], t)):
        home = next((members for head, members in clusters if _alike(head, text, merge_ratio)), None)
        if home is None:
            clusters.append((text, [text]))
        else:
            home.append(text)
    return [[hint for hint in hints if hint.text in members] for _, members in clusters]


def _alike(first: str, second: str, merge_ratio: float) -> bool:
    a, b = normalise(first), normalise(second)
    if a == b:
        return True
    if placeholders(first) != placeholders(second):
        return False
    return fuzz.ratio(a, b) > 100 * merge_ratio


def _entry(hints: list[Hint], tiers: Mapping[str, int]) -> tuple[int, BankEntry]:
    """The tier of a cluster and its entry, not yet ranked."""
    head = hints[0]
    counts = Counter(hint.text for hint in hints)
    text = min(counts, key=lambda t: (-counts[t], t))
    name = entry_id(head.env, head.agent, head.category, text)
    hint_ids = sorted({hint.hint_id for hint in hints})
    episode_ids = sorted({hint.episode_id for hint in hints})
    entry = BankEntry(
        SCHEMA_VERSION, name, head.env, head.agent, head.category, text, len(hints), 0, hint_ids, episode_ids
    )
    return min(tiers.get(hint.rule, len(tiers)) for hint in hints), entry


def _rank(entries: Iterable[tuple[int, BankEntry]]) -> list[BankEntry]:
    ordered = sorted(entries, key=lambda e: (e[0], -e[1].count, e[1].text))
    return [replace(entry, rank=rank) for rank, (_, entry) in enumerate(ordered, start=1)]
