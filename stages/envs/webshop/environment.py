"""WebShop behind the project's environment protocol."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from stages.core.files import CACHE
from stages.envs.base import EnvironmentFault, Observation, Task
from stages.envs.webshop.catalogue import Catalogue, CatalogueError, load_catalogue
from stages.envs.webshop.pages import LocalSite, PageError
from stages.envs.webshop.records import Goal
from stages.envs.webshop.sessions import DIALECTS, Session, Step, admissible

SHOPS = CACHE / "webshop"
"""What it takes to open a catalogue at once, made the first time."""


@dataclass(frozen=True)
class WebShopSpec:
    """What a WebShop task's spec holds: a goal, the catalogue it was written for, and how it is played.

    `catalogue` is a path below the panels' folder. A synthetic goal has an option group for each of its `options`, a human
    goal has none. `cap` is in dollars.
    """

    asin: str
    instruction: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]
    option_groups: tuple[str, ...]
    cap: float
    catalogue: str
    catalogue_sha256: str
    view: Literal["text", "text_rich", "papers"]
    dialect: Literal["text", "client"]

    @property
    def goal(self) -> Goal:
        """The goal, with a weight of 1: it is fixed, and no longer drawn."""
        options = tuple(zip(self.option_groups, self.options, strict=True)) if self.option_groups else self.options
        return Goal(self.asin, self.instruction, self.attributes, options, self.cap, 1.0)


class WebShopEnvironment:
    """Plays the tasks of one panel folder, one after the other. A catalogue is opened once a process."""

    def __init__(self, panel_root: Path, cache_dir: Path = SHOPS) -> None:
        """`panel_root` is the folder that tasks' catalogue paths start from; `cache_dir` keeps what opens them at once."""
        self._root, self._cache = panel_root, cache_dir
        self._session: Session | None = None

    def reset(self, task: Task) -> Observation:
        """Open the shop for a task (its spec: `WebShopSpec`). Raises EnvironmentFault if the spec is not whole, or the
        catalogue or the goal's product is not what the panel was made with."""
        self._session = None
        spec = read_spec(task)
        path = self._root / spec.catalogue
        try:
            site = LocalSite(read_catalogue(path, spec.catalogue_sha256, self._cache), spec.goal)
        except PageError as error:
            raise EnvironmentFault(
                f"task {task.task_id}: the product its goal was written for is not in {path} ({error}). "
                "Build the panels again: dvc repro panels"
            ) from error
        self._session = DIALECTS[spec.dialect](site, spec.view)
        return observe(self._session)

    def step(self, action: str) -> Observation:
        """Carry out one action. RuntimeError if there was no successful reset before."""
        if self._session is None:
            raise RuntimeError("no task is running: call reset() before step()")
        return observe(self._session, self._session.step(action))


def observe(session: Session, step: Step | None = None) -> Observation:
    """What a session shows after a step, or at its start, with the actions of the page it is at, and after a purchase the
    reward's parts (the fields of `Score`)."""
    if step is None:
        return Observation(session.text, admissible(session), 0.0, done=False, valid=True)
    parts = {name: float(value) for name, value in asdict(step.score).items()} if step.score else {}
    return Observation(step.text, admissible(session), step.reward, step.done, step.valid, parts)


def read_spec(task: Task) -> WebShopSpec:
    """A task's spec, checked. Raises EnvironmentFault naming the task and every key that is missing or of a wrong type."""
    try:
        spec = _SPEC.validate_python(task.spec)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise EnvironmentFault(f"task {task.task_id}: its spec is none of WebShop's ({faults})") from error
    if spec.option_groups and len(spec.option_groups) != len(spec.options):
        raise EnvironmentFault(
            f"task {task.task_id}: option_groups must be empty or as long as options, "
            f"found {len(spec.option_groups)} groups for {len(spec.options)} options"
        )
    return spec


@cache
def read_catalogue(path: Path, sha256: str, cache_dir: Path = SHOPS) -> Catalogue:
    """The catalogue in a file, opened once a process. Raises EnvironmentFault if it is missing, not the one that was hashed, or none."""
    try:
        return load_catalogue(path, cache_dir, sha256)
    except CatalogueError as error:
        raise EnvironmentFault(str(error)) from error


_SPEC = TypeAdapter(WebShopSpec)
