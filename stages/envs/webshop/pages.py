"""WebShop's pages: what stands on each, and where each button leads.

A place is where a shopper is, and holds exactly what the address of a page on the official site holds. A page is a place
with its contents: nodes in reading order. The contents are those of WebShop (arXiv 2207.01206) in its text environment.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol
from urllib.parse import quote, unquote

from stages.core.process import Fault
from stages.envs.webshop.records import Goal, Product, Score
from stages.envs.webshop.reward import score

PER_PAGE = 10
SEARCH, BACK, PREVIOUS, NEXT, BUY = "Search", "Back to Search", "< Prev", "Next >", "Buy Now"
SUB_PAGES = ("Description", "Features", "Reviews", "Attributes")
SCORE_LABEL = "Your score (min 0.0, max 1.0)"
_IN_HTML = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&'"}  # how Flask writes JSON into a page


class PageError(Fault, LookupError):
    """There is no such page; the message says what was asked for and what there is."""


class Stock(Protocol):
    """What a site sells: a loaded catalogue, or anything that answers like one."""

    @property
    def products(self) -> Mapping[str, Product]: ...

    def find(self, words: Sequence[str]) -> Sequence[Product]: ...


@dataclass(frozen=True)
class Node:
    """One string of a page. `group` is an option's group (color, size), and empty for everything else."""

    kind: Literal["text", "button", "option", "link"]
    text: str
    group: str = ""


@dataclass(frozen=True)
class Place:
    """Where a shopper is. `words` and `number` are the search and its result page, also for what was opened from there;
    `options` maps groups to the values chosen so far; `tab` is the sub-page."""

    page: Literal["start", "results", "item", "sub", "done"] = "start"
    words: tuple[str, ...] = ()
    number: int = 1
    asin: str = ""
    tab: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """A place and its nodes in reading order. `reward` counts on the done page; `score` is None where only the reward is
    known, as on somebody else's server."""

    place: Place
    nodes: tuple[Node, ...]
    reward: float = 0.0
    score: Score | None = None


class Site(Protocol):
    """Where pages come from: the engine in this process, or a server."""

    def open(self, place: Place) -> Page: ...


def follow(place: Place, node: Node) -> Place:
    """Where a click on a button, an option or a product leads. Going back to the results clears the options."""
    results = Place("results", place.words, place.number)
    if node.kind == "link":
        return replace(results, page="item", asin=node.text)
    if node.kind == "option":
        return replace(place, page="item", options={**place.options, node.group: node.text})
    if node.text == NEXT:
        return replace(results, number=place.number + 1)
    if node.text == PREVIOUS:
        if place.page == "sub":
            return replace(place, page="item", tab="")
        return results if place.page == "item" else replace(results, number=place.number - 1)
    if node.text == BUY:
        return replace(place, page="done")
    if node.text in SUB_PAGES:
        return replace(place, page="sub", tab=node.text)
    return Place()


class LocalSite:
    """The pages one goal's shopper sees. `attributes_tab` adds upstream's optional button to the item page."""

    def __init__(self, stock: Stock, goal: Goal, attributes_tab: bool = False) -> None:
        """Raises PageError if the goal's product is not in stock."""
        self._stock, self._goal, self._attributes_tab = stock, goal, attributes_tab
        self._wanted = self._product(goal.asin)

    def open(self, place: Place) -> Page:
        """Raises PageError for a product or a sub-page that does not exist. A result page beyond the last is empty."""
        if place.page == "start":
            texts = ("WebShop", "Instruction: ", self._goal.instruction)
            return Page(place, (*map(_text, texts), _button(SEARCH)))
        if place.page == "results":
            return Page(place, (*self._head(), *self._results(place)))
        product = self._product(place.asin)
        if place.page == "done":
            judged = score(product, self._wanted, self._goal, place.options)
            return Page(place, _receipt(place, judged), judged.reward, judged)
        contents = self._item(product) if place.page == "item" else _sub_page(product, place.tab)
        return Page(place, (*self._head(), _button(PREVIOUS), *contents))

    def _product(self, asin: str) -> Product:
        product = self._stock.products.get(asin)
        if product is None:
            raise PageError(f"there is no product {asin!r} in this catalogue of {len(self._stock.products)}")
        return product

    def _head(self) -> tuple[Node, ...]:
        return _text("Instruction:"), _text(self._goal.instruction), _button(BACK)

    def _results(self, place: Place) -> list[Node]:
        found = self._stock.find(place.words)
        nodes = [_text(f"Page {place.number} (Total results: {len(found)})")]
        if place.number > 1:
            nodes.append(_button(PREVIOUS))
        nodes.append(_button(NEXT))
        for product in found[(place.number - 1) * PER_PAGE : place.number * PER_PAGE]:
            nodes += [Node("link", product.asin), _text(product.title), _text(product.price_tag)]
        return nodes

    def _item(self, product: Product) -> list[Node]:
        nodes: list[Node] = []
        for group, values in product.options.items():
            nodes += [_text(group), *(Node("option", value, group) for value in values)]
        nodes += [_text(product.title), _text(f"Price: {product.price_tag}"), _text("Rating: N.A.")]
        tabs = SUB_PAGES if self._attributes_tab else SUB_PAGES[:-1]
        return [*nodes, *map(_button, tabs), _button(BUY)]


def _sub_page(product: Product, tab: str) -> list[Node]:
    if tab == "Description":
        return [_text(product.description)]
    if tab == "Features":
        return [_text(f" {bullet}") for bullet in product.bullets]
    if tab == "Reviews":
        return []  # the official files hold none
    if tab == "Attributes":
        attributes = [_text(f" {attribute}") for attribute in product.attributes]
        return [*attributes, _text(product.category), _text(product.query), _text(product.path)]
    raise PageError(f"there is no sub-page {tab!r}, only {', '.join(SUB_PAGES)}")


def _receipt(place: Place, judged: Score) -> tuple[Node, ...]:
    """The done page of upstream's text environment, which fills in little more than product, options and reward."""
    chosen = json.dumps(dict(place.options), sort_keys=True).translate(_IN_HTML)
    texts = ["Thank you for shopping with us!", "Your code: ", "None", " (Paste it in your MTurk interface.)"]
    texts += ["Purchased", "asin", place.asin, "options", chosen, "attrs", "None", "category", "None"]
    texts += ["query", "None", "product category", "None"]
    texts += ["Target", "asin", "options", "attrs", "price upper", "instuction text", "category", "product category"]
    texts += ["query", "Goal ", "None", "Reward", SCORE_LABEL, str(judged.reward), "Reward Details ", "None"]
    return tuple(map(_text, texts))


def _text(text: str) -> Node:
    return Node("text", text)


def _button(text: str) -> Node:
    return Node("button", text)


def to_path(session: str, place: Place) -> str:
    """The quoted path of a place on a WebShop site, by the official site's routes."""
    words = place.words[0] if len(place.words) == 1 else ""
    search = [words if words and not words.startswith("[") else repr(list(place.words)), str(place.number)]
    options = repr(dict(place.options))
    segments = {
        "start": [session],
        "results": ["search_results", session, *search],
        "item": ["item_page", session, place.asin, *search, options],
        "sub": ["item_sub_page", session, place.asin, *search, place.tab, options],
        "done": ["done", session, place.asin, options],
    }[place.page]
    return "/" + "/".join(quote(segment, safe="", errors="replace") for segment in segments)


def from_path(path: str) -> tuple[str, Place]:
    """The session and the place that a quoted path names. Raises PageError if it names none."""
    match [unquote(segment) for segment in path.removeprefix("/").split("/")]:
        case [session] if session:
            return session, Place()
        case ["search_results", session, words, number]:
            return session, Place("results", _words(words), _number(number))
        case ["item_page", session, asin, words, number, options]:
            return session, Place("item", _words(words), _number(number), asin, options=_options(options))
        case ["item_sub_page", session, asin, words, number, tab, options]:
            return session, Place("sub", _words(words), _number(number), asin, tab, _options(options))
        case ["done", session, asin, options]:
            return session, Place("done", asin=asin, options=_options(options))
    raise PageError(
        f"no page has the path {path!r}; pages are /<session> and what begins with /search_results/, /item_page/, "
        "/item_sub_page/ and /done/, with / ? # in a search quoted"
    )


def _words(text: str) -> tuple[str, ...]:
    """A search as the site writes it: a list of words, or plain text."""
    words = _literal(text) if text.startswith("[") else None
    if isinstance(words, list) and words and all(isinstance(word, str) for word in words):
        return tuple(words)
    return (text,)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise PageError(f"a result page has a whole number, found {text!r}") from None


def _options(text: str) -> dict[str, str]:
    options = _literal(text)
    if isinstance(options, dict) and all(isinstance(part, str) for pair in options.items() for part in pair):
        return options
    raise PageError(f"options are a dictionary of strings such as {{'color': 'red'}}, found {text!r}")


def _literal(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
