"""Demonstrations for the warm-up, by environment. No playing stage depends on this package."""
