"""Episodes on a terminal: found among the recorded ones, and laid out to be read."""
