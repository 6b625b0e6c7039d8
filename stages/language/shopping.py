"""Every sentence a hint about shopping can be, in one place: imperative, with placeholders in braces, at most 120 characters as used.

The warm-up shows some of these sentences on made-up groups of options; a wording belongs here and nowhere else.
"""

from __future__ import annotations

OPTION_FORMS: tuple[str, ...] = (
    "Before click[Buy Now], click the {{{group}}} that the instruction names.",
    "On the product's page, click the {{{group}}} named in the instruction; only then click[Buy Now].",
)
"""How to choose from a group of options; field `group`, as the page spells it."""

ATTRIBUTE = (
    "Open only a product whose title or [Description] and [Features] show every quality the instruction asks for."
)
BUDGET = "Buy only a product that costs less than the instruction's limit; look at the price before you open it."
KIND = "Open only the kind of product that the instruction names; else click[Back to Search] and search again."
COMPARE = "Don't open the first product at once: compare all that are shown with the instruction's words."
LOOK = "Before click[Buy Now], open [Description] or [Features] when the title doesn't show all that is asked for."
HURRY = "Buy in time: search once, open the best product, then click[Buy Now] within a few turns."
BRACKETS = "Click only what stands in brackets on the last page, spelled the same; search only on the first page."

SHOP_GENERIC: tuple[str, ...] = (ATTRIBUTE, BUDGET, KIND, COMPARE, LOOK, HURRY, BRACKETS)
"""Lessons for shopping that name no option."""
