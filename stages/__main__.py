"""`python -m stages COMMAND`: what is done by hand, beside the pipeline.

python -m stages profile cpu_study   merge profiles/cpu_study.yaml into params.yaml
python -m stages doctor              what the study needs and costs, and whether it is there
python -m stages verify              hash every output again and hold it against dvc.lock
python -m stages shop                a WebShop site with the test panel's goals, on 127.0.0.1:3000
python -m stages play                a task played by oneself, or by an agent while one watches
python -m stages show                recorded episodes, and where hints came from
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path

from stages.commands import play
from stages.commands import show
from stages.engines.base import EngineFault
from stages.envs.base import EnvironmentFault
from stages.envs.panel import PanelError
from stages.core.params import SettingsError, load
from stages.commands.profile import apply_profile, settings_with
from stages.core.records import RecordError
from stages.commands.shop import open_shop
from stages.commands.verify import VerifyError, verify
from stages.viewing.episodes import NotFound

PARAMS = Path("params.yaml")
PROFILES = Path("profiles")
PROFILE_NAMES = sorted(p.stem for p in PROFILES.glob("*.yaml"))
FAULTS = (
    *(SettingsError, PanelError, RecordError, EnvironmentFault, EngineFault),
    *(VerifyError, play.PlayError, show.ShowError, NotFound),
)


def main() -> int:
    """Run one command; 1 when it finds a fault."""
    parser = argparse.ArgumentParser(prog="python -m stages", description="What is done by hand, beside `dvc repro`.")
    commands = parser.add_subparsers(required=True)
    profile = commands.add_parser("profile", help="merge a profile into params.yaml, keeping its comments")
    profile.add_argument("name", choices=PROFILE_NAMES)
    profile.set_defaults(run=_profile)
    doctor = commands.add_parser(
        "doctor",
        help="check a study's settings, data, model, memory and disk, and estimate its cost",
        description="Find out what a study needs and costs, and whether it is there, without running anything. Exits with 1 when "
        "something is missing or wrong that would stop the study on this machine.",
    )
    doctor.add_argument(
        "--profile", choices=PROFILE_NAMES, help="look at params.yaml with this profile over it (default: as it stands)"
    )
    doctor.add_argument(
        "--rate",
        type=float,
        metavar="N",
        help="tokens a second that the engine is taken to compute (default: as in the last run of the embedded engine, else 2000)",
    )
    doctor.set_defaults(run=_doctor)
    check = commands.add_parser("verify", help="hash every output again and hold it against dvc.lock")
    check.set_defaults(run=_verify)
    shop = commands.add_parser("shop", help="serve a WebShop site with a panel's goals, until interrupted")
    shop.add_argument("--panel", default="test", help="whose task n the session fixed_<n> shops for (default: test)")
    shop.add_argument("--host", default="127.0.0.1", help="address to bind to (default: this machine alone)")
    shop.add_argument(
        "--port", type=int, default=3000, help="0 takes any free one (default: 3000, as the official site)"
    )
    shop.set_defaults(run=_shop)
    play.add_parser(commands)
    show.add_parser(commands)
    args = parser.parse_args()
    try:
        return int(args.run(args))
    except FAULTS as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads has seen enough, as `| head` does; what is left goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _profile(args: argparse.Namespace) -> int:
    changed = apply_profile(PARAMS, PROFILES / f"{args.name}.yaml")
    print("\n".join(changed) or "params.yaml holds these settings already")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from stages.commands.doctor import examine  # brings transformers along, which no other command here needs

    settings = settings_with(PARAMS, PROFILES / f"{args.profile}.yaml") if args.profile else load(PARAMS)
    findings = list(examine(settings, args.rate))
    width = max(len(finding.about) for finding in findings)
    for finding in findings:
        print(f"{finding.level:<6}{finding.about:<{width + 2}}{finding.text}")
    return 1 if any(finding.level == "fault" for finding in findings) else 0


def _verify(args: argparse.Namespace) -> int:
    faults = verify(Path("dvc.lock"))
    print("\n".join(faults) or "every output is what dvc.lock says")
    return 1 if faults else 0


def _shop(args: argparse.Namespace) -> int:
    try:
        site = open_shop(Path("data/panels/webshop"), args.panel, args.host, args.port)
    except OSError as error:
        print(f"cannot serve at {args.host}:{args.port}: {error}; choose another --port", file=sys.stderr)
        return 1
    with site:
        print(f"{site.url}/fixed_0 shops for the first goal of the panel {args.panel!r}; stop with Ctrl-C", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
