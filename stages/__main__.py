"""`python -m stages COMMAND`: what is done by hand, beside the pipeline.

python -m stages profile cpu_study   merge profiles/cpu_study.yaml into params.yaml
python -m stages verify              hash every output again and hold it against dvc.lock
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stages.params import SettingsError
from stages.profiles import apply_profile
from stages.verify import VerifyError, verify

PROFILES = Path("profiles")


def main() -> int:
    """Run one command; 1 when it finds a fault."""
    parser = argparse.ArgumentParser(prog="python -m stages", description="What is done by hand, beside `dvc repro`.")
    commands = parser.add_subparsers(dest="command", required=True)
    profile = commands.add_parser("profile", help="merge a profile into params.yaml, keeping its comments")
    profile.add_argument("name", choices=sorted(p.stem for p in PROFILES.glob("*.yaml")))
    commands.add_parser("verify", help="hash every output again and hold it against dvc.lock")
    args = parser.parse_args()
    try:
        if args.command == "profile":
            changed = apply_profile(Path("params.yaml"), PROFILES / f"{args.name}.yaml")
            print("\n".join(changed) or "params.yaml holds these settings already")
            return 0
        faults = verify(Path("dvc.lock"))
    except (SettingsError, VerifyError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(faults) or "every output is what dvc.lock says")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
