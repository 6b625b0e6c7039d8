"""A shop of fourteen hand-made products, and goals to shop for in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from stages.envs.webshop.records import Goal, Product


def path(*parts: str) -> str:
    """A category path, its parts separated as upstream does."""
    return " \u203a ".join(parts)


def product(asin: str, title: str, **fields: object) -> Product:
    """A product with plain values for all that a test does not care about."""
    plain: dict[str, object] = {
        "category": "garden",
        "query": "desk lamps",
        "path": path("Home & Kitchen", "Lighting", "Desk Lamps"),
        "description": "",
        "bullets": (),
        "attributes": (),
        "options": {},
        "price_tag": "$100.0",
        "price": 100.0,
        "nouns": ("desk", "lamp"),
    }
    return Product(asin=asin, title=title, **{**plain, **fields})  # type: ignore[arg-type]


LUMO = product(
    "B0LUMO0001",
    "Lumo Desk Lamp",
    description="A lamp for long evenings.",
    bullets=("dimmable in 3 steps", "steel & oak"),
    attributes=("dimmable", "energy saving"),
    options={"color": ("black", "white"), "size": ("small", "large")},
    price_tag="$24.99",
    price=24.99,
)
NOOR = product("B0NOOR0002", "Noor Desk Lamp", description=" ", price_tag="$10.0 to $20.0", price=12.5)
ODD = product(
    "B0ODD00003",
    'Odd <b>Lamp</b> & "Shade"',
    description='5 > 4 &amp; "so on"',
    bullets=("", "été"),
    options={"fit type": ("women's", '24" wide', "a | b", "50% off", "été", "what? #1")},
    price_tag="$5.0",
    price=5.0,
)
SHELF: tuple[Product, ...] = (
    LUMO,
    NOOR,
    ODD,
    *(product(f"B0LAMP{n:04}", f"Plain Lamp {n}") for n in range(4, 13)),
    product("B0MUG00013", "Mug", query="mugs", path=path("Kitchen", "Mugs"), nouns=("mug",)),
    product("B0CUP00014", "Cup", query="mugs", path=path("Kitchen", "Cups"), nouns=("cup",)),
)
WANTED = Goal(
    asin=LUMO.asin,
    instruction="i need a dimmable desk lamp in black and large, and price lower than 30.00 dollars",
    attributes=("dimmable",),
    options=("black", "large"),
    cap=30.0,
    weight=1.0,
)
ANY_MUG = Goal("B0MUG00013", "a mug <or> a cup & no 'lamp'", ("round",), (), 40.0, 3.0)


class LittleShop:
    """Finds what has one of the words in its title, in the shelf's order."""

    def __init__(self, shelf: Sequence[Product] = SHELF) -> None:
        self.products: Mapping[str, Product] = {item.asin: item for item in shelf}

    def find(self, words: Sequence[str]) -> list[Product]:
        wanted = _words(" ".join(words))
        return [item for item in self.products.values() if wanted & _words(item.title)]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
