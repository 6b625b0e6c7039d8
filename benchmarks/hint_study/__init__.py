"""The parts of benchmarks/hints.py, some of them shared with hint_links.py: what is compared, how it is played, what retrieval chooses, and the page."""
