"""Figures as MLflow's pages show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(fraction: float) -> str:
    """A fraction in per cent: `73.3 %`."""
    return f"{100 * fraction:.1f} %"


def result(row: Mapping[str, Any]) -> str:
    """Success of a row of metrics/systems.json with its 95 % interval: `73.3 % (61 to 83)`."""
    return f"{percent(row['success'])} ({100 * row['success_low']:.0f} to {100 * row['success_high']:.0f})"


def share(found: Mapping[str, Any] | None) -> str:
    """Successes of tasks: `16 of 20`; empty where there are none."""
    return f"{round(found['success'] * found['n'])} of {found['n']}" if found and found["n"] else ""
