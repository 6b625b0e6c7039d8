"""The parts of benchmarks/hints.py: what is compared, how it is played, what retrieval chooses, and the page."""
