"""Simple shoppers that know the engine: yardsticks for a catalogue's difficulty, and the proof that every goal can be met."""

from __future__ import annotations

from stages.envs.webshop.catalogue import Catalogue
from stages.envs.webshop.pages import LocalSite
from stages.envs.webshop.records import Goal, Product, Score
from stages.envs.webshop.sessions import ClientSession, Step
from stages.language.pages import offers, option_groups


def verbatim(catalogue: Catalogue, goal: Goal) -> Score | None:
    """Searches with the instruction as it stands, opens the first product and buys it."""
    return _first(catalogue, goal, choose=False)


def matched_options(catalogue: Catalogue, goal: Goal) -> Score | None:
    """Like `verbatim`, and clicks every option whose value stands in the instruction."""
    return _first(catalogue, goal, choose=True)


def oracle(catalogue: Catalogue, goal: Goal) -> Score | None:
    """Knows the product: finds it by its title, clicks the options wanted, and buys."""
    session = ClientSession(LocalSite(catalogue, goal), "text_rich")
    product = catalogue.products[goal.asin]
    session.step(f"search[{product.title}]")
    while f"[button] {product.asin} [button_]" not in session.text:
        if not session.step("click[Next >]").valid or "[button] B0" not in session.text:
            return None
    session.step(f"click[{product.asin}]")
    for wanted in goal.options:
        session.step(f"click[{_value(product, wanted)}]")
    return session.step("click[Buy Now]").score


def _first(catalogue: Catalogue, goal: Goal, choose: bool) -> Score | None:
    session = ClientSession(LocalSite(catalogue, goal), "papers")
    shown = offers(session.step(f"search[{goal.instruction}]").text)
    if not shown:
        return None
    page: Step = session.step(f"click[{shown[0].asin}]")
    if choose:
        for values in option_groups(page.text).values():
            for value in values:
                if value in goal.instruction:
                    session.step(f"click[{value}]")
    return session.step("click[Buy Now]").score


def _value(product: Product, wanted: str | tuple[str, str]) -> str:
    """The option's value as the page has it."""
    value = wanted if isinstance(wanted, str) else wanted[1]
    return next(v for values in product.options.values() for v in values if v == value)
