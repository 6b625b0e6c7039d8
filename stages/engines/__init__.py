"""Where tokens come from: one protocol (`base`), one module an engine."""
