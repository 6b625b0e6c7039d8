"""Hints from household failures: what the text showed, and what a probe in the failed train game found."""

from stages.core.params import Hints
from stages.hinting.alfworld.probe import probe
from stages.hinting.alfworld.rules import TIERS, findings
from stages.hinting.base import HintRules


def basis(settings: Hints) -> str:
    """What the rules read of a failure."""
    steps = settings.probing
    return f"the environment's text, and up to {steps} steps of trying out" if steps else "the environment's text"


DEEDS = frozenset({"carry", "drop", "put", "search", "visit"})
RULES = HintRules(findings, TIERS, basis, probe, deeds=DEEDS)
