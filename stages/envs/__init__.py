"""Environments an agent acts in: one protocol (`base`), one package an environment."""
