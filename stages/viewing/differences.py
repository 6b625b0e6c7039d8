"""Two states against each other: the stages that ran anew, and each system's figures, paired over the tasks it played in both."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from stages.core.records import RecordError
from stages.stats.contrasts import ContrastRow, Sides, complete_tasks, contrast_row, metrics_of
from stages.stats.headline import Row, cell_of
from stages.stats.holm import holm
from stages.stats.systems import label
from stages.viewing.revisions import Revision


@dataclass(frozen=True)
class StageDifferences:
    """Names of stages: with other outputs; run anew, with the same outputs; and the packages of code that they depend on and that differ."""

    other: list[str]
    same: list[str]
    code: list[str]


@dataclass(frozen=True)
class SystemDifference:
    """A system of a cell in two states. `rows`, one a figure, are the second state minus the first, `p_holm` over all figures of the
    comparison. `reason` says why nothing, or not every seed, is paired; it is empty without rows when both states have the very same episodes.
    """

    cell: str
    system: str
    rows: tuple[ContrastRow, ...] = ()
    reason: str = ""


def stage_differences(first: Revision, second: Revision) -> StageDifferences:
    """What dvc.lock says of the second state that it does not of the first; `track` always runs and is left out."""
    changed = {n: e for n, e in second.stages.items() if e.get("outs") and e != first.stages.get(n)}
    same = [
        name for name, entry in changed.items() if _hashes(entry, "outs") == _hashes(first.stages.get(name, {}), "outs")
    ]
    code = {
        "/".join(path.split("/")[:2])
        for name, entry in changed.items()
        for path, md5 in _hashes(entry, "deps").items()
        if path.startswith("stages/") and _hashes(first.stages.get(name, {}), "deps").get(path, md5) != md5
    }
    return StageDifferences([name for name in changed if name not in same], same, sorted(code))


def system_differences(first: Revision, second: Revision, resamples: int, seed: int) -> list[SystemDifference]:
    """Each system that both states report, in the order of the second; `resamples` and `seed` rule bootstrap and permutations."""
    mine, theirs = by_system(first.systems), by_system(second.systems)
    found = [_compared(first, second, mine[place], theirs[place], resamples, seed) for place in theirs if place in mine]
    adjusted = iter(holm([row.p_value for difference in found for row in difference.rows]))
    return [
        dataclasses.replace(one, rows=tuple(dataclasses.replace(row, p_holm=next(adjusted)) for row in one.rows))
        for one in found
    ]


def by_system(rows: Iterable[Row]) -> dict[tuple[str, str], dict[int, Row]]:
    """Rows by cell and system, then by seed."""
    found: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        found.setdefault((cell_of(row), row["system"]), {})[row["seed"]] = row
    return found


def _compared(
    first: Revision, second: Revision, mine: dict[int, Row], theirs: dict[int, Row], resamples: int, seed: int
) -> SystemDifference:
    """One system, paired if both states met the same tasks and the cache has the episodes."""
    seeds = sorted(mine.keys() & theirs.keys())
    row = next(iter(theirs.values()))
    empty = SystemDifference(cell_of(row), row["system"], reason=_seeds_said(first.name, mine, second.name, theirs))
    if not seeds:
        return empty
    panels = {one["panel_sha256"] for rows in (mine, theirs) for one in rows.values()}
    if len(panels) > 1:
        hashes = " and ".join(next(iter(rows.values()))["panel_sha256"][:8] for rows in (mine, theirs))
        return dataclasses.replace(empty, reason=f"not paired, the {row['panel']} panels are different ones ({hashes})")
    names = [f"{empty.cell}_{label(row['system'], s)}" for s in seeds]
    folders = [f"data/evals/{name}" for name in names]
    if all(first.output(folder) == second.output(folder) != "" for folder in folders):
        return empty
    try:
        sides = [(second.episodes(name, row["panel"]), first.episodes(name, row["panel"])) for name in names]
    except RecordError as error:
        return dataclasses.replace(empty, reason=f"not paired, {error}")
    lacking = [rev for side, rev in enumerate((second, first)) if any(pair[side] is None for pair in sides)]
    if lacking:
        said = "; ".join(f"{rev.name}'s episodes are not in DVC's cache (`{rev.remedy}`)" for rev in lacking)
        return dataclasses.replace(empty, reason=f"not paired, {said}")
    complete: Sides = [(a, b) for a, b in sides if a is not None and b is not None]
    return dataclasses.replace(empty, rows=tuple(_paired(complete, row, resamples, seed)))


def _seeds_said(first: str, mine: Iterable[int], second: str, theirs: Iterable[int]) -> str:
    """What of the seeds is paired where the states do not have the same ones."""
    here, there = set(mine), set(theirs)
    if here == there:
        return ""
    both, one, other = (", ".join(map(str, sorted(seeds))) for seeds in (here & there, here, there))
    return f"seeds paired: {both or 'none'} ({first} has {one}; {second} has {other})"


def _paired(sides: Sides, row: Row, resamples: int, seed: int) -> list[ContrastRow]:
    """A row a figure, of all tasks that no machine failed at, and one of success where the task calls for a withheld skill."""
    tasks = complete_tasks(sides)
    graded = row["score"] is not None
    hidden = {e.task_id for e in sides[0][0] if e.skill in row["withheld"]}
    rows = [contrast_row(sides, tasks, metric, resamples, seed, graded) for metric in metrics_of(graded) if tasks]
    withheld = [task for task in tasks if task in hidden]
    if withheld:
        rows.append(contrast_row(sides, withheld, "success", resamples, seed, graded, "withheld"))
    return rows


def _hashes(entry: dict[str, Any], part: str) -> dict[str, str]:
    return {item["path"]: str(item.get("md5", "")) for item in entry.get(part, [])}
