"""`python -m stages profile`: settings of whole studies, merged into params.yaml, which stays the one place that DVC and the stages read.

`panels: {NAME: null}` in a profile takes an environment out: its tasks are not made.
"""

from __future__ import annotations

import io
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.core.files import atomic
from stages.core.params import PARAMS, Settings, SettingsError, flat, parse

PROFILES = Path("profiles")


def names() -> list[str]:
    """The profiles there are."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def add_parser(commands: Any) -> None:
    """The command's own arguments."""
    parser = commands.add_parser("profile", help="merge a profile into params.yaml, keeping its comments")
    parser.add_argument("name", choices=names())
    parser.add_argument(
        "--overrides", action="store_true", help="print it as values for `dvc exp run -S`; change nothing"
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Merge a profile and say what changed; or print it."""
    profile = PROFILES / f"{args.name}.yaml"
    if args.overrides:
        settings_with(PARAMS, profile)
        print("\n".join(overrides(profile)))
        return 0
    changed = apply_profile(PARAMS, profile)
    print("\n".join(changed) or f"{PARAMS} holds these settings already")
    return 0


def apply_profile(params: Path, profile: Path) -> list[str]:
    """Overwrite the settings that `profile` names; comments stay. Returns a line for each that changed.

    Raises `SettingsError` for a profile that names unknown or impossible settings; then params.yaml stays as it was.
    """
    text, changed = _overlaid(params, profile)
    with atomic(params) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return changed


def overrides(profile: Path) -> list[str]:
    """A profile as Hydra's overrides, a line a value: what `dvc exp run -S` takes."""

    values = YAML(typ="safe").load(profile.read_text(encoding="utf-8"))
    return [
        f"~{name}" if _takes_out(name, value) else f"{name}={json.dumps(value)}" for name, value in flat(values).items()
    ]


def settings_with(params: Path, profile: Path) -> Settings:
    """The settings that `apply_profile` would leave; nothing is written. Raises `SettingsError` as it does."""
    return _parsed(_overlaid(params, profile)[0], params, profile)


def _overlaid(params: Path, profile: Path) -> tuple[str, list[str]]:
    """The text of params.yaml with a profile's settings in it, checked, and what changed."""
    yaml = YAML()
    yaml.width = 4096
    yaml.preserve_quotes = True
    try:
        settings, overlay = (yaml.load(path.read_text(encoding="utf-8")) for path in (params, profile))
    except (OSError, YAMLError) as error:
        raise SettingsError(f"cannot read {params} and {profile}: {error}") from error
    changed = _merge(settings, overlay, "")
    buffer = io.StringIO()
    yaml.dump(settings, buffer)
    _parsed(buffer.getvalue(), params, profile)
    return buffer.getvalue(), changed


def _parsed(text: str, params: Path, profile: Path) -> Settings:
    return parse(YAML(typ="safe").load(text), f"{params} with {profile}")


def _merge(target: Any, overlay: Any, where: str) -> list[str]:
    changed = []
    for key, value in overlay.items():
        name = f"{where}{key}"
        if _takes_out(name, value):
            changed += [f"{name}: taken out"] if target.pop(key, None) is not None else []
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            changed += _merge(target[key], value, f"{name}.")
        elif target.get(key) != value:
            changed.append(f"{name}: {target.get(key)} -> {value}")
            target[key] = value
    return changed


def _takes_out(name: str, value: Any) -> bool:
    """Whether a profile's value takes an environment out of the study."""
    return value is None and name.startswith("panels.") and name.count(".") == 1
