"""Hint writers by their names in `hints.writer`."""
