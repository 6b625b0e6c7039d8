"""The words of the generated catalogue: departments, kinds of products, their qualities and options. Plain terms of trade."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of product: the search it is found by, its category path, its name in titles, option groups, price range in dollars."""

    query: str
    path: tuple[str, ...]
    name: str
    options: dict[str, tuple[str, ...]]
    prices: tuple[float, float]


COLORS = (
    "black", "white", "navy blue", "rose gold", "forest green", "burgundy", "light grey", "coral pink", "mustard", "turquoise",
    "lavender", "espresso brown",
)  # fmt: skip
SIZES = ("x-small", "small", "medium", "large", "x-large", "xx-large")
SHOE_SIZES = ("6", "6.5", "7.5", "8.5", "9", "10.5")
VOLUMES = ("1.7 fl oz", "3.4 fl oz", "8 fl oz", "16 fl oz")
PACKS = ("pack of 1", "pack of 3", "pack of 6", "pack of 12")
SCENTS = ("vanilla bean", "wild berry", "eucalyptus mint", "sea breeze", "honey almond")
FLAVORS = (
    "peanut butter", "salted caramel", "raspberry", "dark cocoa", "maple pecan", "lemon ginger", "crème brûlée", "matcha 抹茶",
)  # fmt: skip
LENGTHS = ("3 feet", "6 feet", "10 feet", "15 feet")
AREAS = ("24 x 36 in", "30 x 60 in", "36 x 72 in", "48 x 84 in")
BEDS = ("twin", "full", "queen", "king")
CAPACITIES = ("32gb", "64gb", "128gb", "256gb")

_BEAUTY, _CLOTHES = "Beauty & Personal Care", "Clothing, Shoes & Jewelry"
_TECH, _HOME, _FOOD = "Electronics", "Home & Kitchen", "Grocery & Gourmet Food"

KINDS: dict[str, tuple[Kind, ...]] = {
    "beauty": (
        Kind("hair masks", (_BEAUTY, "Hair Care", "Hair Masks"), "Hair Mask", {"scent": SCENTS, "size": VOLUMES}, (8, 45)),
        Kind("body lotions", (_BEAUTY, "Skin Care", "Body Lotions"), "Body Lotion", {"scent": SCENTS, "size": VOLUMES}, (6, 40)),
        Kind("lipstick", (_BEAUTY, "Makeup", "Lipstick"), "Lipstick", {"color": COLORS}, (5, 30)),
        Kind("makeup brushes", (_BEAUTY, "Tools", "Makeup Brushes"), "Brush Set", {"color": COLORS, "style": ("10 piece", "14 piece", "24 piece")}, (9, 60)),
        Kind("face serums", (_BEAUTY, "Skin Care", "Face Serums"), "Face Serum", {"size": VOLUMES}, (10, 70)),
    ),
    "electronics": (
        Kind("headphones", (_TECH, "Audio", "Headphones"), "Headphones", {"color": COLORS}, (20, 250)),
        Kind("hdmi cables", (_TECH, "Accessories", "Cables"), "HDMI Cable", {"color": COLORS[:4], "length": LENGTHS}, (6, 45)),
        Kind("tablet cases", (_TECH, "Accessories", "Tablet Cases"), "Tablet Case", {"color": COLORS, "style": ("folio", "rugged", "slim")}, (9, 60)),
        Kind("memory cards", (_TECH, "Computers", "Memory Cards"), "Memory Card", {"capacity": CAPACITIES}, (8, 90)),
        Kind("security cameras", (_TECH, "Cameras", "Security Cameras"), "Security Camera", {"color": COLORS[:3], "style": ("1 pack", "2 pack", "4 pack")}, (25, 220)),
    ),
    "fashion": (
        Kind("women's dresses", (_CLOTHES, "Women", "Dresses"), "Midi Dress", {"color": COLORS, "size": SIZES}, (15, 80)),
        Kind("men's shirts", (_CLOTHES, "Men", "Shirts"), "Henley Shirt", {"color": COLORS, "size": SIZES}, (12, 55)),
        Kind("women's sneakers", (_CLOTHES, "Women", "Sneakers"), "Sneakers", {"color": COLORS, "size": SHOE_SIZES}, (25, 120)),
        Kind("men's shorts", (_CLOTHES, "Men", "Shorts"), "Shorts", {"color": COLORS, "size": SIZES}, (12, 50)),
        Kind("winter coats", (_CLOTHES, "Women", "Coats"), "Winter Coat", {"color": COLORS, "size": SIZES}, (35, 190)),
    ),
    "garden": (
        Kind("end tables", (_HOME, "Furniture", "End Tables"), "End Table", {"color": COLORS}, (30, 180)),
        Kind("area rugs", (_HOME, "Decor", "Area Rugs"), "Area Rug", {"color": COLORS, "size": AREAS}, (25, 260)),
        Kind("mattresses", (_HOME, "Furniture", "Mattresses"), "Mattress", {"size": BEDS, "style": ("8 inch", "10 inch", "12 inch")}, (120, 700)),
        Kind("office chairs", (_HOME, "Furniture", "Office Chairs"), "Office Chair", {"color": COLORS}, (60, 350)),
        Kind("curtains", (_HOME, "Decor", "Curtains"), "Curtains", {"color": COLORS, "size": AREAS}, (15, 90)),
    ),
    "grocery": (
        Kind("snack bars", (_FOOD, "Snacks", "Bars"), "Snack Bars", {"flavor name": FLAVORS, "size": PACKS}, (7, 60)),
        Kind("ground coffee", (_FOOD, "Beverages", "Coffee"), "Coffee", {"flavor name": FLAVORS, "size": PACKS}, (8, 70)),
        Kind("popcorn", (_FOOD, "Snacks", "Popcorn"), "Popcorn", {"flavor name": FLAVORS, "size": PACKS}, (6, 45)),
        Kind("nut butters", (_FOOD, "Spreads", "Nut Butters"), "Almond Spread", {"flavor name": FLAVORS, "size": PACKS}, (7, 50)),
        Kind("herbal tea", (_FOOD, "Beverages", "Tea"), "Herbal Tea", {"flavor name": FLAVORS, "size": PACKS}, (5, 40)),
    ),
}  # fmt: skip

QUALITIES: dict[str, tuple[str, ...]] = {
    "beauty": (
        "cruelty free", "paraben free", "sulfate free", "fragrance free", "alcohol free", "long lasting", "easy to apply", "travel size",
        "clinically proven", "non toxic", "oil free", "tea tree", "coconut oil", "argan oil", "hyaluronic acid", "aloe vera", "shea butter",
        "sensitive skin", "dry hair", "dark circles", "fine lines", "damaged hair",
    ),
    "electronics": (
        "fast charging", "hands free", "noise cancelling", "plug and play", "high speed", "high definition", "water resistant",
        "easy to install", "heavy duty", "high performance", "ultra hd", "carbon fiber", "tempered glass", "stainless steel",
        "aluminum alloy", "usb port", "lithium battery", "home theater", "car audio", "wireless charging", "video calling",
    ),
    "fashion": (
        "machine wash", "slim fit", "loose fit", "long sleeve", "quick drying", "hand wash", "relaxed fit", "classic fit",
        "moisture wicking", "water resistant", "high waist", "wide leg", "cotton spandex", "rubber sole", "elastic waist", "faux fur",
        "memory foam", "button closure", "daily wear", "gym workout", "everyday wear", "winter warm",
    ),
    "garden": (
        "easy to assemble", "easy to clean", "space saving", "heavy duty", "fully assembled", "ready to use", "machine washable",
        "height adjustable", "eco friendly", "mid century", "lead free", "spot clean", "solid wood", "coated steel", "faux leather",
        "steel frame", "living room", "dining room", "home office", "small rooms", "guest room",
    ),
    "grocery": (
        "gluten free", "sugar free", "keto friendly", "dairy free", "low carb", "non gmo", "certified organic", "high protein",
        "individually wrapped", "low sodium", "plant based", "nut free", "ready to eat", "natural ingredients", "real fruit", "soy free",
        "dietary fiber", "gift basket", "birthday party", "lunch box", "baby shower",
    ),
}  # fmt: skip

SYLLABLES = (
    "ar", "bel", "cor", "dan", "el", "fen", "gal", "hol", "is", "jor", "kel", "lum", "mar", "nov", "or", "pel", "qui", "ros", "sol",
    "tav", "ul", "vex", "wen", "yar", "zel",
)  # fmt: skip
MARKS = ("®", "™")
OCCASIONS: dict[str, tuple[str, ...]] = {
    "beauty": ("Salon", "Evening", "Vanity"),
    "electronics": ("Desk", "Studio", "Gamer"),
    "fashion": ("Spring", "Holiday", "Weekend"),
    "garden": ("Cabin", "Lounge", "Study"),
    "grocery": ("Breakfast", "Picnic", "Pantry"),
}
"""What titles say a product is for, by department. None is a quality's word: a quality in the title meets an attribute."""
HAN_NAMES = {
    "hair masks": "发膜", "lipstick": "口红", "face serums": "精华液", "headphones": "耳机", "tablet cases": "保护套",
    "women's dresses": "连衣裙", "area rugs": "地毯", "ground coffee": "咖啡", "herbal tea": "花草茶",
}  # fmt: skip
"""Names in Chinese, by query, that some titles of these kinds hold."""
PRAISE = (
    "A small workshop makes it, and somebody looks at each piece before it leaves.",
    "It comes in a plain box that can be recycled.",
    "People who bought it once tend to buy it again.",
    "Write to us within a month if anything is wrong.",
    "Good to give, and good to keep.",
)
REQUESTS = ("i am looking for {}", "i need {}", "i want to buy {}", "please find {}", "show me {}", "i would like {}")
OTHER_WORDS = {
    "black": "dark as night", "white": "snowy", "navy blue": "deep blue", "small": "little", "large": "big", "pack of 1": "single",
    "pack of 12": "dozen", "queen": "queen-sized", "king": "king-sized", "twin": "single-bed", "raspberry": "berry", "light grey": "pale grey",
    "10 piece": "ten-piece", "2 pack": "two-pack", "6 feet": "six foot", "3 feet": "three foot",
}  # fmt: skip
"""How an instruction may put an option's value in words of its own, so that it is not found by comparing strings."""

_QUALITY_NOUNS = (
    "skin hair circles lines oil butter tea tree acid aloe vera coconut argan shea battery port glass steel fiber alloy theater "
    "audio wood frame leather room rooms office fruit protein basket party box shower sole waist fur foam closure workout wear wash "
    "sleeve leg speed definition performance"
)
_KIND_NOUNS = " ".join(f"{kind.name} {kind.path[-1]}" for kinds in KINDS.values() for kind in kinds).lower()
_OTHER_NOUNS = " ".join(
    [*HAN_NAMES.values(), *(occasion for found in OCCASIONS.values() for occasion in found)]
).lower()
NOUNS = frozenset(f"{_QUALITY_NOUNS} {_KIND_NOUNS} {_OTHER_NOUNS}".split())
"""The words of titles that count as nouns."""
