"""Which hints an episode is shown."""
