"""A demonstrator that sees only what an agent sees: the pages in the papers' form.

It searches with the instruction's own words, opens the first product shown that costs no more than the instruction allows, chooses the
options it was told to choose, and buys. It knows no product and no reward. The search has ranked the products by the instruction's words: to
rank them again by their titles finds no more of the fitting ones (generated shop, 640 plain goals: 307 bought, 309 by the first).
"""

from __future__ import annotations

from collections.abc import Collection

from stages.language.pages import offers, option_groups, read_request

_CLICKED = "You have clicked "
_PAGES = 3  # of results looked through at most


class Lost(RuntimeError):
    """There is nothing on the pages that the shopper would buy, or it has met text that it can't read."""


class Shopper:
    """One task. `choose` are the option groups it chooses from when the instruction names one of their values; None: all."""

    def __init__(self, opening: str, choose: Collection[str] | None = None) -> None:
        request = read_request(opening)
        if request is None:
            raise Lost(f"no instruction in {opening[:80]!r}")
        self._request = request
        self._choose = choose
        self._chosen: set[str] = set()
        self._meant = ""  # the product it means to open
        self._selection = ["nothing"]
        self._page = opening
        self._pages = 0
        self.passed_over = False  # whether the first product that the search found costs too much

    @property
    def state(self) -> dict[str, str]:
        """What it knows of itself before it acts."""
        return {"Goal": self._request.text, "Selection": ", ".join(self._selection)}

    def observe(self, text: str) -> None:
        """Take in what the last action led to."""
        if text.startswith(_CLICKED):
            self._selection.append(text.removeprefix(_CLICKED).rstrip("."))
            return
        self._page = text
        self._selection = [self._meant if "[Buy Now]" in text else "nothing"]

    def decide(self) -> tuple[str, str]:
        """The next thought and action. Raises `Lost`."""
        if "[Search]" in self._page:
            return "I search with the words of the instruction.", f"search[{self._request.text}]"
        if "[Buy Now]" in self._page:
            return self._at_item()
        return self._at_results()

    def _at_results(self) -> tuple[str, str]:
        self._pages += 1
        shown = offers(self._page)
        offer = next((offer for offer in shown if offer.price <= self._request.cap), None)
        self.passed_over = self.passed_over or shown[:1] != [offer]
        if offer is not None:
            self._meant = offer.asin
            return f"{offer.asin} is the first that is cheap enough: {offer.price:.2f}.", f"click[{offer.asin}]"
        if self._pages == _PAGES:
            raise Lost("nothing that can be paid for")
        return "None of these is cheap enough.", "click[Next >]"

    def _at_item(self) -> tuple[str, str]:
        for name, values in option_groups(self._page).items():
            if name in self._chosen or (self._choose is not None and name not in self._choose):
                continue
            self._chosen.add(name)
            named = [value for value in values if self._request.names(value)]
            if named:
                value = max(named, key=len)
                return f"The instruction names {name} {value}.", f"click[{value}]"
        return "Nothing is left to choose.", "click[Buy Now]"
