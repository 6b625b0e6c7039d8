"""A shopper's walk through the pages, in one of two action dialects.

`text` is WebShop's text environment (arXiv 2207.01206), `client` the HTTP client of the papers (ReAct, arXiv 2210.03629,
and StateAct). Both know `search[words]` and `click[something on the page]`. The number of turns is the caller's business.

Held beside both on catalogues as in `reward`: 0 of 32,881 texts of the text environment (`text` and `text_rich`, with rewards, ends and what can
be clicked) differ, and 0 of 3,222 observations of StateAct's client on the official site and on `stages.site`. Knowingly different:
- A query with ? # or % is answered, and one with a slash as if a blank stood there; the official site has no such page (404).
- `<r>` draws from the words as seed, upstream anew at each page; a lone `<c>`, at which upstream fails, is a search like others, or lists nothing.
- The text environment takes a page for another when `search_results` or `item_page` stand in a query; here names of pages are words.
- The client reads escapes such as `\\n` in texts, and still takes what an earlier page offered when the present one offers no product or
  no option; here texts are shown as they are, and the present page counts.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from stages.envs.webshop.pages import (
    BACK,
    BUY,
    NEXT,
    PREVIOUS,
    SCORE_LABEL,
    SEARCH,
    SUB_PAGES,
    Node,
    Place,
    Site,
    follow,
)
from stages.envs.webshop.records import Score
from stages.envs.webshop.views import render, shown

SEARCH_ACTION = "search[<words>]"
INVALID = "Invalid action!"
MAX_SEARCH = 4000  # characters of a client's search; quoted, they still fit the longest address that servers take

_ACTION = re.compile(r"(.+)\[(.+)\]")
_FIXED_BUTTONS = {BACK, PREVIOUS, NEXT, BUY, *SUB_PAGES}
_ITEM_COMMANDS = {name.lower(): Node("button", name) for name in (BACK, PREVIOUS, BUY, *SUB_PAGES)}


@dataclass(frozen=True)
class Step:
    """What came of an action. `reward` lies in [0, 1]; `score` holds its parts after a purchase, where they are known."""

    text: str
    reward: float
    done: bool
    valid: bool
    score: Score | None


class Session(ABC):
    """One shopper on one site, at the start page to begin with. Dialects read actions differently and share the walking."""

    def __init__(self, site: Site, view: str) -> None:
        self.view = view
        self._site = site
        self._seen: set[str] = set()
        self.page = site.open(Place())

    @property
    def done(self) -> bool:
        return self.page.place.page == "done"

    @property
    def text(self) -> str:
        """The page as it reads now."""
        return render(self.page, self.view, self._seen)

    def step(self, action: str) -> Step:
        """Carry out one action. One that the dialect refuses changes nothing, and nor does any after the purchase."""
        return self._stay(self.text, valid=False) if self.done else self._act(action)

    @abstractmethod
    def takes_search(self) -> bool:
        """Whether the dialect lets a shopper search from this page."""

    @abstractmethod
    def targets(self, nodes: Iterable[Node]) -> dict[str, Node]:
        """What can be clicked among these nodes, by the name a click has for it."""

    @abstractmethod
    def _act(self, action: str) -> Step: ...

    def _go(self, place: Place) -> Step:
        self.page = self._site.open(place)
        if place.page == "start":
            self._seen.clear()
        elif place.page == "item":
            self._seen.add(place.asin)
        return Step(self.text, self.page.reward, self.done, True, self.page.score)

    def _stay(self, text: str, valid: bool) -> Step:
        return Step(text, 0.0, self.done, valid, None)


class TextSession(Session):
    """The text environment: searches from every page, ignores case, and answers a refused action with the same page. A click on an
    option that is named as a page of the product is, such as `description`, opens that page, even where it has no button."""

    def takes_search(self) -> bool:
        return not self.done

    def targets(self, nodes: Iterable[Node]) -> dict[str, Node]:
        nodes = tuple(nodes)
        targets = {node.text.lower(): node for node in nodes if node.kind in ("button", "link")}
        targets.update({node.text: _ITEM_COMMANDS.get(node.text, node) for node in nodes if node.kind == "option"})
        targets.pop(SEARCH.lower(), None)
        return targets

    def _act(self, action: str) -> Step:
        match = _ACTION.match(action)
        verb, argument = (match[1], match[2].lower()) if match else ("", "")
        if verb == "search":
            return self._go(Place("results", tuple(argument.split(" "))))
        target = self.targets(self.page.nodes).get(argument) if verb == "click" else None
        return self._go(follow(self.page.place, target)) if target else self._stay(self.text, valid=False)


# The client never looks whether the page has them: page 0 can be reached, and the sub-page that the site leaves out.
_UNSEEN_BUTTONS = {("results", PREVIOUS), ("item", "Attributes")}


class ClientSession(Session):
    """The papers' client: searches from the start page alone, wants exact names, and knows `think[...]`."""

    def takes_search(self) -> bool:
        return self.page.place.page == "start"

    def targets(self, nodes: Iterable[Node]) -> dict[str, Node]:
        return {node.text: node for node in nodes if node.kind != "text" and node.text != SEARCH}

    def _act(self, action: str) -> Step:
        argument = action[action.find("[") + 1 : -1]
        if action.startswith("think["):
            return self._stay("OK.", valid=True)
        if action.startswith("search[") and self.takes_search() and len(argument) <= MAX_SEARCH:
            return self._go(Place("results", (_plain(argument),)))
        return self._click(argument) if action.startswith("click[") else self._stay(INVALID, valid=False)

    def _click(self, name: str) -> Step:
        place = self.page.place
        target = self.targets(self.page.nodes).get(name)
        if (place.page, name) in _UNSEEN_BUTTONS:
            target = Node("button", name)
        if target is None:
            # On pages without names of their own, the client lets any other name pass and loads the page again.
            strict = name in _FIXED_BUTTONS or place.page in ("results", "item")
            return self._stay(INVALID if strict else self.text, valid=False)
        step = self._go(follow(place, target))
        if step.done:
            return replace(step, text=f"{SCORE_LABEL}: {step.reward}")
        return replace(step, text=f"You have clicked {name}.") if target.kind == "option" else step


DIALECTS: Mapping[str, type[Session]] = {"text": TextSession, "client": ClientSession}


def admissible(session: Session) -> tuple[str, ...]:
    """The actions that the page offers: `search[<words>]` literally where a search is taken, and a click for every button,
    option and product that the view shows."""
    clicks = (f"click[{name}]" for name in session.targets(shown(session.page, session.view)))
    return ((SEARCH_ACTION,) if session.takes_search() else ()) + tuple(clicks)


def _plain(search: str) -> str:
    """A search as the site's address can carry it, with the same results: the routes take no slash, at a lone `<c>` the official
    site fails, and a lone dot is a step in the path."""
    search = search.replace("/", " ")
    return f" {search}" if search == "<c>" or search.startswith(".") else search
