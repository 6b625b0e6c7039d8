"""WebShop's frozen panels: a catalogue, and goals chosen from upstream's splits."""

from __future__ import annotations

import json
import random
import tempfile
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from stages.core.files import settled
from stages.envs.base import Task
from stages.envs.panel import PanelError, cut, write_panels
from stages.envs.webshop.catalogue import write_catalogue
from stages.envs.webshop.records import Goal
from stages.panelling import STUDY
from stages.panelling.webshop.generator import generate
from stages.panelling.webshop.goals import SPLITS, human_goals, synthetic_goals
from stages.panelling.webshop.nouns import ListedNouns, NounError, SpacyNouns
from stages.panelling.webshop.official import FILES, OfficialData, OfficialError, read_official
from stages.panelling.webshop.release import unfit
from stages.panelling.webshop.settings import OfficialWebshop, WebshopPanels
from stages.panelling.webshop.vocabulary import NOUNS

CATALOGUE, LEFT_OUT = "catalogue.parquet", "left_out.json"
_NAMED = 100  # rows of a kind that are named in the record
_SPLIT_OF = {
    "test": "test",
    "dev": "dev",
    "warmup": "train",
    "train": "train",
}  # measured panels first: they choose first
_WHOLE = 3000  # goals from which on upstream's splits are used as they are


def build_panels(
    settings: WebshopPanels,
    out: Path,
    limit: Mapping[str, int | None] = MappingProxyType({}),
    names: Collection[str] = STUDY,
) -> None:
    """Write the panels of these names, each of at most `limit` goals, and the catalogue to the folder `out`.

    `test` comes from upstream's test split [0, 500) of the shuffled goals, `dev` from [500, 1500), `warmup` and `train` from the rest.
    Balanced panels take the same shares of fewer than 3,000 goals, and no product of a measured one is any other's. Official ones are the
    first goals of each split, in upstream's order, and may share what `stages.panels` then counts.
    Raises `PanelError` when the data are unusable or there are too few goals.
    """
    try:
        data = read_data(settings)
        goals = human_goals(data, settings.seed) if settings.goals == "human" else synthetic_goals(data, settings.seed)
    except (OfficialError, NounError) as error:
        raise PanelError(str(error)) from error
    out.mkdir(parents=True, exist_ok=True)
    sha256 = write_catalogue(out / CATALOGUE, data.products)
    department = {product.asin: product.category for product in data.products}
    if settings.choose == "official":
        chosen = choose_official(goals, settings.official)
    else:
        sizes = {str(panel): {str(k): n for k, n in wanted.items()} for panel, wanted in settings.sizes.items()}
        chosen = choose(goals, department, sizes, settings.seed)
    tasks: dict[str, list[Task]] = {
        panel: [
            _task(panel, n, goal, department[goal.asin], settings, sha256)
            for n, goal in enumerate(cut(chosen[panel], lambda goal: bool(goal.options), limit.get(panel)))
        ]
        for panel in ("warmup", "train", "dev", "test")
        if panel in names and panel in chosen
    }
    write_panels(out, "webshop", f"{_source(settings)}, nouns: {data.nouns}", tasks, data.files)
    if data.left_out:
        _record(out / LEFT_OUT, data.left_out)


def _source(settings: WebshopPanels) -> str:
    """Where the tasks came from, as tables and reports quote it; official panels say all that tells them from the papers'."""
    if settings.choose == "balanced":
        return settings.source
    products = f"{settings.products:,} products" if settings.products else "all products"
    return (
        f"{settings.source}, {products}, goals in the official order, view {settings.view}, dialect {settings.dialect}"
    )


def _record(path: Path, left_out: Mapping[str, Sequence[str]]) -> None:
    """Write and say which rows of the official files count for nothing."""
    rows = {reason: {"count": len(found), "rows": list(found[:_NAMED])} for reason, found in left_out.items()}
    path.write_text(json.dumps({"schema_version": 1, "left_out": rows}, indent=1) + "\n", encoding="utf-8")
    said = "; ".join(
        f"{len(found)} with {reason} ({found[0]}{', ...' * (len(found) > 1)})" for reason, found in left_out.items()
    )
    print(f"webshop: rows left out, as upstream does: {said}", flush=True)


def read_data(settings: WebshopPanels) -> OfficialData:
    """The official files of `data_dir`, or those of a generated catalogue."""
    if settings.source == "official" and settings.data_dir is not None:
        products = {1000: "1000", 0: "all"}.get(settings.products)
        if products is None:
            raise PanelError(
                f"panels.webshop.products: official data come with 1000 products, or 0 for all; found {settings.products}"
            )
        folder = settled(settings.data_dir)
        if wrong := unfit(folder, FILES[products]):
            raise PanelError(f"{'; '.join(wrong)}. `python -m stages fetch webshop` gets the files")
        return read_official(
            folder,
            products="1000" if products == "1000" else "all",
            seed=settings.seed,
            nouns=SpacyNouns(),
        )
    with tempfile.TemporaryDirectory() as generated:
        generate(Path(generated), settings.products, settings.seed)
        return read_official(Path(generated), products="1000", seed=settings.seed, nouns=ListedNouns(NOUNS))


def choose(
    goals: Sequence[Goal], department: Mapping[str, str], sizes: Mapping[str, Mapping[str, int]], seed: int
) -> dict[str, list[Goal]]:
    """Goals by panel, the products' departments in turn; raises `PanelError` where there are too few."""
    taken: dict[str, str] = {}  # product -> panel
    used: set[tuple[str, str]] = set()
    chosen: dict[str, list[Goal]] = {}
    for panel, split in _SPLIT_OF.items():
        pool = list(_split(goals, split))
        random.Random(f"webshop|{seed}|{panel}").shuffle(pool)
        chosen[panel] = []
        for skill, count in sizes.get(panel, {}).items():
            fit = [
                goal
                for goal in {(goal.asin, goal.instruction): goal for goal in pool}.values()
                if (skill == "options") == bool(goal.options)
                and (goal.asin, goal.instruction) not in used
                and _free(taken.get(goal.asin), panel)
            ]
            found = _in_turn(fit, department)[:count]
            if len(found) < count:
                raise PanelError(
                    f"panel {panel!r} asks for {count} goals of kind {skill!r}, and the {split} split has {len(found)} left; ask for fewer "
                    "in panels.webshop.sizes, or for more products"
                )
            chosen[panel] += found
            taken |= {goal.asin: panel for goal in found}
            used |= {(goal.asin, goal.instruction) for goal in found}
    return chosen


def choose_official(goals: Sequence[Goal], wanted: OfficialWebshop) -> dict[str, list[Goal]]:
    """The first goals of upstream's splits, in their order: task n of `test` is goal n, of `dev` goal 500 + n, of `train` goal 1,500 + n.
    Raises `PanelError` where there are fewer."""
    chosen = {}
    for panel, number in wanted.model_dump().items():
        start = SPLITS[panel][0]
        if len(goals) < start + number:
            raise PanelError(
                f"panel {panel!r} asks for goals {start:,} to {start + number - 1:,} of the official order, and there are {len(goals):,} in all; "
                "ask for fewer in panels.webshop.official, for more products, or for balanced panels (panels.webshop.choose)"
            )
        chosen[panel] = list(goals[start : start + number])
    return chosen


def _split(goals: Sequence[Goal], split: str) -> Sequence[Goal]:
    start, end = SPLITS[split]
    if len(goals) >= _WHOLE:
        return goals[start:end]
    share = len(goals) / _WHOLE
    return goals[int(start * share) : None if end is None else int(end * share)]


def _free(owner: str | None, panel: str) -> bool:
    """A product is a panel's own, but for warm-up and train, which may share it."""
    return owner in (None, panel) or {owner, panel} == {"warmup", "train"}


def _in_turn(goals: Sequence[Goal], department: Mapping[str, str]) -> list[Goal]:
    """The goals, one of each department after the other as long as they last."""
    queues: dict[str, list[Goal]] = defaultdict(list)
    for goal in goals:
        queues[department[goal.asin]].append(goal)
    rounds = max(map(len, queues.values()), default=0)
    return [queues[name][turn] for turn in range(rounds) for name in sorted(queues) if turn < len(queues[name])]


def _task(panel: str, number: int, goal: Goal, category: str, settings: WebshopPanels, sha256: str) -> Task:
    pairs = [option for option in goal.options if not isinstance(option, str)]
    spec = {
        "asin": goal.asin,
        "instruction": goal.instruction,
        "attributes": list(goal.attributes),
        "options": [option if isinstance(option, str) else option[1] for option in goal.options],
        "option_groups": [group for group, _ in pairs],
        "cap": goal.cap,
        "catalogue": CATALOGUE,
        "catalogue_sha256": sha256,
        "view": settings.view,
        "dialect": settings.dialect,
        "wants": "options" if goal.options else "plain",
    }
    return Task(f"webshop-{panel}-{number:04d}", "webshop", panel, category, goal.instruction, spec)
