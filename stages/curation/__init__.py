"""From successes to training examples, and the gates that they must pass."""
