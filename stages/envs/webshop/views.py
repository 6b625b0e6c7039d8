"""How a page reads: the three forms in which WebShop is shown to agents, as pure functions of a page.

`text` and `text_rich` are the observation modes of WebShop's text environment (arXiv 2207.01206). `papers` is the form of
the HTTP client that ReAct (arXiv 2210.03629) published and StateAct took over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from stages.envs.webshop.pages import Node, Page

SHOWN_PRODUCTS = 3  # of a result page's ten, in the papers' form
_SPACES = " \t\n\r\f"


def render(page: Page, view: str, seen: Collection[str] = ()) -> str:
    """A page as text. `seen` are the products opened since the last visit of the start page, which `text_rich` marks.

    Raises KeyError for an unknown view.
    """
    return VIEWS[view](page, seen)


def shown(page: Page, view: str) -> Iterator[Node]:
    """The nodes a reader of this view can see, and could act on."""
    products = 0
    for node in page.nodes:
        products += node.kind == "link"
        if node.kind != "link" or view != "papers" or products <= SHOWN_PRODUCTS:
            yield node


def _text(page: Page, seen: Collection[str]) -> str:
    return " [SEP] ".join(text.strip() for _, text in _strings(page.nodes))


def _text_rich(page: Page, seen: Collection[str]) -> str:
    lines, clicked = [], []
    for node, text in _strings(page.nodes):
        if node.kind == "text":
            lines.append(text)
        elif node.kind == "button":
            lines.append(f"[button] {text} [button_]")
        elif node.kind == "link":
            lines.append("\n" + _marked(text, text in seen))
        else:
            chosen = _is_chosen(text, page.place.options, '"')
            lines.append("  " + _marked(text, chosen))
            if chosen:
                clicked.append(f"You have clicked {text}.")
    return "".join(line + "\n" for line in [*reversed(clicked), *lines])


def _marked(text: str, clicked: bool) -> str:
    return f"[clicked button] {text} [clicked button_]" if clicked else f"[button] {text} [button_]"


def _papers(page: Page, seen: Collection[str]) -> str:
    parts = []
    texts = products = after = 0  # how many texts and products came before, and how many strings since the last product
    for node, text in _strings(page.nodes):
        if not text.strip():
            continue
        if node.kind == "button":
            parts.append(f"\n[{text}] ")
        elif node.kind == "option":
            parts.append(f"[[{text}]]" if _is_chosen(text, page.place.options, "'") else f"[{text}]")
        elif node.kind == "link":
            products, after = products + 1, 0
            parts.append(f"\n[{text}] " if products <= SHOWN_PRODUCTS else "")
        else:
            instruction = texts < 2 and page.place.page != "start"
            hidden_product = products > SHOWN_PRODUCTS and after <= 2  # its title and its price
            parts.append("" if instruction or hidden_product else f"\n{text} ")
            texts += 1
        after += 1
    return "".join(parts)


def _is_chosen(value: str, options: Mapping[str, str], mark: str) -> bool:
    """Upstream takes an option as chosen if it stands, in quotation marks, in the page's address. So it misses values that
    are written there in another way: with quotation marks of their own, or, in `text_rich`, beyond ASCII."""
    address = json.dumps(dict(options)) if mark == '"' else repr(dict(options))
    return f"{mark}{value}{mark}" in address


def _strings(nodes: Iterable[Node]) -> Iterator[tuple[Node, str]]:
    """What an HTML parser makes of the nodes' texts: white space alone becomes a single blank, or with a newline nothing."""
    for node in nodes:
        if node.text.strip(_SPACES):
            yield node, node.text
        elif node.text and "\n" not in node.text:
            yield node, " "


VIEWS: Mapping[str, Callable[[Page, Collection[str]], str]] = {
    "text": _text,
    "text_rich": _text_rich,
    "papers": _papers,
}
