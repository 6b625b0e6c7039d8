"""What a purchase that fell short teaches: one pure function a lesson, the most specific first.

A rule reads the pages that the episode saw and, when the study allows it (`hints.sees_parts`), the parts of its reward; never the
goal's product. Options are called by the names that the page showed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from stages.core.params import Hints
from stages.core.records import Episode
from stages.hinting.base import Finding, ProbeRecord, pick
from stages.language import shopping as wording
from stages.language.forms import fitting
from stages.language.pages import Offer, Request, offers, option_groups, read_request

TIERS = {"option_missed": 0, "over_budget": 1, "attribute_missed": 2, "wrong_kind": 2}
"""How specific a rule's lessons are, 0 the most."""


@dataclass(frozen=True)
class ShopCase:
    """One failure with everything a rule may look at. `parts` is empty unless the study lets the writer see them."""

    episode: Episode
    parts: dict[str, float]
    max_chars: int

    @cached_property
    def request(self) -> Request | None:
        return read_request(self.episode.opening)

    @cached_property
    def pages(self) -> list[str]:
        return [turn.observation for turn in self.episode.turns]

    @cached_property
    def clicks(self) -> list[str]:
        """What was clicked, in order."""
        actions = [turn.action for turn in self.episode.turns if turn.valid]
        return [a.removeprefix("click[").removesuffix("]") for a in actions if a.startswith("click[")]

    @property
    def bought(self) -> bool:
        return "Buy Now" in self.clicks

    @cached_property
    def opened(self) -> Offer | None:
        """The product that was opened last, as the results showed it."""
        shown = {offer.asin: offer for page in self.pages for offer in offers(page)}
        return next((shown[name] for name in reversed(self.clicks) if name in shown), None)

    def fell_short(self, met: str, wanted: str) -> bool | None:
        """Whether the reward's parts say so; None when they were not seen."""
        return self.parts[met] < self.parts[wanted] if self.parts else None


def missed_groups(case: ShopCase) -> list[str]:
    """Option groups of the page bought from, in which a value stands that the instruction names, and none was clicked."""
    page = next((page for page in reversed(case.pages) if "[Buy Now]" in page), "")
    if not case.bought or case.request is None or case.fell_short("options_met", "options_wanted") is False:
        return []
    groups = option_groups(page)
    open_groups = {name: values for name, values in groups.items() if not set(values) & set(case.clicks)}
    return [name for name, values in open_groups.items() if any(case.request.names(value) for value in values)]


def option_missed(case: ShopCase) -> Iterator[Finding]:
    """An option that the instruction names was on the page, and was not chosen."""
    for group in missed_groups(case):
        texts = fitting(wording.OPTION_FORMS, case.max_chars, group=group)
        if texts:
            yield Finding(pick(texts, group), f"bought without a choice of {group}; the task: {case.episode.goal}")


def over_budget(case: ShopCase) -> Iterator[Finding]:
    """What was bought costs more than the instruction allows."""
    dear = case.opened is not None and case.request is not None and case.opened.price > case.request.cap
    if case.bought and (case.parts["price_met"] == 0 if case.parts else dear):
        price = f"{case.opened.price:.2f} dollars" if case.opened else "too much"
        yield Finding(wording.BUDGET, f"bought for {price}; the task: {case.episode.goal}")


def wrong_kind(case: ShopCase) -> Iterator[Finding]:
    """The reward's type factor says that another kind of product was asked for."""
    if case.bought and case.parts and case.parts["type_factor"] < 1 and case.opened:
        yield Finding(wording.KIND, f"bought {case.opened.title!r}; the task: {case.episode.goal}")


def attribute_missed(case: ShopCase) -> Iterator[Finding]:
    """The reward's parts say that a quality was missed."""
    if case.bought and case.fell_short("attributes_met", "attributes_wanted"):
        met, wanted = case.parts["attributes_met"], case.parts["attributes_wanted"]
        yield Finding(wording.ATTRIBUTE, f"{met:.0f} of {wanted:.0f} qualities; the task: {case.episode.goal}")


def never_looked(case: ShopCase) -> Iterator[Finding]:
    """Bought without a look at description or features."""
    if case.bought and not {"Description", "Features"} & set(case.clicks):
        yield Finding(wording.LOOK, "bought without opening Description or Features")


def first_product(case: ShopCase) -> Iterator[Finding]:
    """The very first product was opened, and no other."""
    shown = [offer.asin for page in case.pages[:1] for offer in offers(page)]
    opened = [name for name in case.clicks if name in shown]
    if case.bought and shown and opened == shown[:1]:
        yield Finding(wording.COMPARE, f"opened only {shown[0]}, the first of {len(shown)} shown")


def invalid(case: ShopCase) -> Iterator[Finding]:
    """An action was refused."""
    turn = next((turn for turn in case.episode.turns if not turn.valid), None)
    if turn:
        yield Finding(wording.BRACKETS, f"'{turn.action[:80]}': {turn.observation[:80]}")


def unfinished(case: ShopCase) -> Iterator[Finding]:
    """Nothing was bought."""
    if not case.bought:
        yield Finding(wording.HURRY, f"nothing bought in {case.episode.steps} turns")


RULES = (option_missed, over_budget, wrong_kind, attribute_missed, unfinished, invalid, first_product, never_looked)
"""Most specific first."""


def findings(episode: Episode, probe: ProbeRecord | None, settings: Hints) -> Iterator[tuple[str, Finding]]:
    """What each rule finds in a failed episode, with the rule's name; nothing is probed in a shop."""
    parts = {part.name: part.value for part in episode.parts} if settings.sees_parts else {}
    case = ShopCase(episode, parts, settings.max_chars)
    for rule in RULES:
        for finding in rule(case):
            yield rule.__name__, finding
