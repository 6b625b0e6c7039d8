"""From failures to hints: writers, an environment's rules and probe, the bank."""
