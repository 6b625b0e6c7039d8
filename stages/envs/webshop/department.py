"""A goal's department, read from its instruction: multinomial naive Bayes over the words of known instructions."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from stages.envs.panel import load_panel


class DepartmentReader:
    """Learns from pairs of instruction and department (those of the train panel: nothing of what is measured)."""

    def __init__(self, known: Sequence[tuple[str, str]]) -> None:
        """Raises ValueError when nothing is known."""
        if not known:
            raise ValueError("no instruction with its department to learn from")
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._goals = Counter(department for _, department in known)
        for instruction, department in known:
            self._counts[department].update(_words(instruction))
        self._vocabulary = len(set().union(*self._counts.values()))

    def read(self, instruction: str) -> str:
        """The likeliest department; of equals the first by name."""
        words = _words(instruction)
        return max(sorted(self._goals), key=lambda department: self._likelihood(words, department))

    def _likelihood(self, words: Sequence[str], department: str) -> float:
        """Logarithm of prior times likelihood, with add-one smoothing."""
        counts = self._counts[department]
        total = counts.total() + self._vocabulary
        return math.log(self._goals[department]) + sum(math.log((counts[word] + 1) / total) for word in words)


def category_reader(panel_root: Path) -> Callable[[str], str]:
    """What reads a department from an instruction, learnt from the train panel's instructions."""
    return DepartmentReader([(task.goal, task.category) for task in load_panel(panel_root, "train")[0]]).read


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]{3,}", text.lower())
