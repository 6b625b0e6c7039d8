"""From failures to hints: a writer that reads what the environment showed, a probe, the bank, retrieval."""
