"""Makers of panels: what they need beyond playing, by environment."""
