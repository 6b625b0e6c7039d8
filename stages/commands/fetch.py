"""`python -m stages fetch`: the official data of a benchmark, had from where it is published or from what lies here already.

Without more it says what is needed, where it comes from, under which licence, how large it is, and what is missing.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.commands import profile
from stages.core import plugins
from stages.core.params import PARAMS, Settings, load
from stages.panelling.release import Release, ReleaseError

RELEASES = {
    "alfworld": "stages.panelling.alfworld.release:AlfworldRelease",
    "webshop": "stages.panelling.webshop.release:WebshopRelease",
}


def add_parser(commands: Any) -> None:
    """The command's own arguments."""
    parser = commands.add_parser(
        "fetch",
        help="say what a benchmark's official data are, download them, or take what lies here",
        description="Say what official data the settings want, where they come from, their licence and size, and what is missing; with "
        "--download or --from, put it where the settings expect it. Exits with 1 while something is missing after that.",
    )
    parser.add_argument("env", choices=RELEASES)
    parser.add_argument(
        "--profile",
        choices=profile.names(),
        help="what params.yaml with this profile over it wants (default: as it stands)",
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--download", action="store_true", help="from where they are published; one that broke off goes on"
    )
    way.add_argument(
        "--from",
        dest="sources",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="from a folder, a zip or tar archive, or single files; they stay as they are",
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Describe, download or take. Raises `ReleaseError`, `SettingsError`."""
    settings = profile.settings_with(PARAMS, profile.PROFILES / f"{args.profile}.yaml") if args.profile else load()
    release = release_of(args.env, settings)
    if not args.download and not args.sources:
        print("\n".join(describe(release, command(args.env, args.profile))))
        return 0
    if absent := [path for path in args.sources or () if not path.exists()]:
        raise ReleaseError(f"{absent[0]}: no such file or folder; name what holds the data")
    try:
        print("\n".join(release.download() if args.download else release.take(args.sources)))
    except OSError as error:
        raise ReleaseError(
            f"{error.filename or release.place}: {error.strerror or error}; see to it and fetch again"
        ) from error
    lacking = release.lacking()
    print("".join(f"still lacking: {line}\n" for line in lacking), end="")
    return 1 if lacking else 0


def release_of(env: str, settings: Settings) -> Release:
    """What is published for an environment, seen by these settings. Raises `SettingsError` where they have no such environment."""
    found: Release = plugins.resolve(RELEASES[env])(settings.panels[env])
    return found


def command(env: str, profile_name: str | None) -> str:
    """The command that says what to get."""
    return f"python -m stages fetch {env}{f' --profile {profile_name}' if profile_name else ''}"


def describe(release: Release, again: str) -> Iterator[str]:
    """What is needed and missing, line by line; `again` is the command that is to get it."""
    yield release.title
    yield f"  from     {release.origin}"
    yield f"  licence  {release.licence}"
    yield f"  size     {sum(piece.size for piece in release.pieces) / 1e6:,.1f} MB to download"
    yield f"  goes to  {release.place}"
    for piece in release.pieces:
        yield f"  {piece.name}: {piece.size:,} bytes, SHA-256 {piece.sha256}"
        yield f"    {piece.page}"
    lacking = release.lacking()
    if not lacking:
        yield f"It is here; `{again} --from {release.place}` reads it to its end."
        return
    yield from (f"lacking: {line}" for line in lacking)
    yield f"{again} --download      # or by hand, from the addresses above, and then:"
    yield f"{again} --from PATH     # the folder, archive or files that you have"
