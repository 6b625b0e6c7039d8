"""Episodes: many at once, journalled, resumable."""
