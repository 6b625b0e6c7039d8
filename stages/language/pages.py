"""Reading shop pages as an agent could, in the papers' form: the instruction, the products shown, the options offered."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CAP = re.compile(r",? and price lower than (\d+(?:\.\d+)?) dollars")
_PRODUCT = re.compile(r"\n\[(B\w{9})\] \n(.*?) \n(\$[\d.,]+(?: to \$[\d.,]+)?) ")
_GROUP = re.compile(r"\n([a-z][^\[\]\n]*) ((?:\[+[^\[\]\n]+\]+)+)")


@dataclass(frozen=True)
class Offer:
    """A product as a result page shows it; `price` in dollars, of a range the lower end."""

    asin: str
    title: str
    price: float


@dataclass(frozen=True)
class Request:
    """An instruction, read: what is asked for, without the price clause, and the highest price in dollars."""

    text: str
    cap: float

    def names(self, value: str) -> bool:
        """Whether an option's value stands in it, word for word."""
        return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", self.text) is not None


def read_request(opening: str) -> Request | None:
    """The instruction on the start page; None for a page that has none."""
    found = re.search(r"Instruction:\s*\n(.+?) ?\n\[Search\]", opening, re.S)
    if not found:
        return None
    cap = _CAP.search(found[1])
    return Request(_CAP.sub("", found[1]).strip(" .\n"), float(cap[1]) if cap else float("inf"))


def offers(text: str) -> list[Offer]:
    """The products that a result page shows."""
    return [
        Offer(asin, title, float(price.split(" ")[0].strip("$").replace(",", "")))
        for asin, title, price in _PRODUCT.findall(text)
    ]


def option_groups(text: str) -> dict[str, list[str]]:
    """An item page's option groups and their values, chosen ones among them."""
    return {name.strip(): re.findall(r"\[+([^\[\]]+)\]+", values) for name, values in _GROUP.findall(text)}


def words(text: str) -> set[str]:
    """A text's words and numbers in lower case, plurals cut."""
    return {word.rstrip("s") for word in re.findall(r"[a-z0-9]+", text.lower())}
