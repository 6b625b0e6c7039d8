"""`python -m stages COMMAND`: what is done by hand, beside the pipeline.

python -m stages profile cpu_study   merge profiles/cpu_study.yaml into params.yaml
python -m stages doctor              what the study needs and costs, and whether it is there
python -m stages fetch webshop       a benchmark's official data: what they are, downloaded, or taken from what lies here
python -m stages verify              hash every output again and hold it against dvc.lock
python -m stages shop                a WebShop site with the test panel's goals, on 127.0.0.1:3000
python -m stages play                a task played by oneself, or by an agent while one watches
python -m stages ui                  MLflow's pages, at the table of all systems
python -m stages compare             experiments and commits beside each other, figures and what moved them
python -m stages rounds              later rounds, whose base is a student of the round before
python -m stages show                recorded episodes, and where hints came from

A command is a module here with `add_parser`, which adds its arguments and sets `run`.
"""

from __future__ import annotations

import argparse
import os
import sys

from stages.commands import compare, doctor, fetch, play, profile, rounds, shop, show, ui, verify
from stages.core.process import Fault, check_root, hush_libraries

COMMANDS = (profile, doctor, fetch, verify, shop, compare, ui, rounds, play, show)


def main() -> int:
    """Run one command; 1 when it finds a fault."""
    hush_libraries()
    try:
        check_root()
        parser = argparse.ArgumentParser(
            prog="python -m stages", description="What is done by hand, beside `dvc repro`."
        )
        commands = parser.add_subparsers(required=True)
        for command in COMMANDS:
            command.add_parser(commands)
        args = parser.parse_args()
        return int(args.run(args))
    except Fault as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads has seen enough, as `| head` does; what is left goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
