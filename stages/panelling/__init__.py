"""Makers of panels: what they need beyond playing, by environment."""

STUDY = ("train", "dev", "test", "test_seen")
"""Panels of a study; what the warm-up is shown, `warmup`, is none of them."""
