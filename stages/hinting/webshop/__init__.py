"""Hints from purchases that fell short: the pages that were seen say what could have been done."""

from stages.core.params import Hints
from stages.hinting.base import HintRules
from stages.hinting.webshop.rules import TIERS, findings


def basis(settings: Hints) -> str:
    """What the rules read of a failure."""
    return "the reward's parts" if settings.sees_parts else "the outcome alone, not the reward's parts"


RULES = HintRules(findings, TIERS, basis)
