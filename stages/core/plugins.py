"""Environments, agents and hint writers by their names: each is a module or a package in its folder, and is found there.

`stages/envs/<name>` has `ENVIRONMENT` (a `stages.core.spec.EnvSpec`), `stages/agents/<name>.py` has `AGENT` (a
`stages.agents.base.AgentSpec`), `stages/hinting/writers/<name>.py` has `write` (see `stages.hinting.base`).
"""

from __future__ import annotations

import importlib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from stages.core.process import Fault
from stages.core.spec import EnvSpec

STAGES = Path(__file__).parents[1]
SHARED = {"envs": {"base", "panel", "registry"}, "agents": {"base", "reading", "shots"}, "hinting/writers": set()}
"""The modules of each folder that are no plug-ins."""


class PluginError(Fault, ValueError):
    """A name that nothing has, or something that is not what its name promises: says which, and what there is."""


def names(folder: str) -> list[str]:
    """What a folder below stages/ holds, by name. Raises `PluginError` where two of them have the same name."""
    found = Counter(
        path.stem
        for path in (STAGES / folder).iterdir()
        if path.stem not in SHARED[folder]
        and not path.name.startswith(("_", "."))
        and (path.suffix == ".py" or (path / "__init__.py").is_file())
    )
    twice = sorted(name for name, count in found.items() if count > 1)
    if twice:
        raise PluginError(f"stages/{folder} holds {twice[0]}.py and {twice[0]}/, two of one name; rename or remove one")
    unnamable = [name for name in found if folder == "agents" and "_" in name]
    if unnamable:
        raise PluginError(
            f"stages/agents/{unnamable[0]}.py: a cell is <env>_<agent>, so an agent's name has no underscore"
        )
    return sorted(found)


def find(folder: str, name: str, attribute: str) -> Any:
    """An attribute of the plug-in `name`. Raises `PluginError` for an unknown name, and for a module without it or that does not import."""
    kind = {"envs": "environment", "agents": "agent", "hinting/writers": "hint writer"}[folder]
    if name not in names(folder):
        raise PluginError(f"there is no {kind} {name!r} in stages/{folder}, only {', '.join(names(folder))}")
    return resolve(f"stages.{folder.replace('/', '.')}.{name}:{attribute}")


def resolve(reference: str) -> Any:
    """What `module:attribute` names, or `module` itself. Raises `PluginError` when it does not import or is not there."""
    module, _, attribute = reference.partition(":")
    try:
        found = importlib.import_module(module)
        return getattr(found, attribute) if attribute else found
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{reference}: {error}") from error
    except Exception as error:  # a person's own module may fail at anything
        raise PluginError(f"{reference} does not import: {type(error).__name__}: {error}") from error


@cache
def environment(name: str) -> EnvSpec:
    """What the environment of that name says of itself. Raises `PluginError`."""
    spec = find("envs", name, "ENVIRONMENT")
    if not isinstance(spec, EnvSpec) or spec.name != name:
        raise PluginError(f"stages/envs/{name}: ENVIRONMENT must be an EnvSpec named {name!r}, found {spec!r:.80}")
    return spec


_PARTS: dict[str, tuple[str, ...]] = {
    "environment": (),
    "categories_read": (),
    "settings": ("stages.panelling.",),
    "panels": ("stages.panelling.",),
    "demonstrations": ("stages.demonstrations.",),
    "hint_rules": ("stages.hinting.",),
}
"""Where an environment's parts may lie besides its own folder, so that an edit in them reruns the stages that call them."""


def check_environment(name: str) -> None:
    """Import all parts of an environment. Raises `PluginError` for one that is missing or lies where no stage would notice an edit, and for a
    class without a method."""
    spec = environment(name)
    for part, folder in _PARTS.items():
        reference = getattr(spec, part)
        if reference and not reference.startswith((f"stages.envs.{name}.", f"stages.envs.{name}:", *folder)):
            raise PluginError(
                f"{name}: {part} is {reference}, expected below stages.envs.{name}{' or '.join(('', *folder))}"
            )
        if reference:
            resolve(reference)
    for part in ("examples", "oracle"):
        path = getattr(spec, part)
        if path and f"/envs/{name}/" not in path.as_posix():
            raise PluginError(f"{name}: {part} is {path}, expected a file below stages/envs/{name}")
    made = resolve(spec.environment)
    missing = [method for method in ("reset", "step") if not callable(getattr(made, method, None))]
    if missing:
        raise PluginError(f"{spec.environment} has no {' and no '.join(missing)}: see stages.envs.base.Environment")
