"""`python -m stages shop`: a WebShop site over a frozen panel, for browsers and for clients written against the official site."""

from __future__ import annotations

import contextlib
import signal
from argparse import Namespace
from pathlib import Path
from typing import Any

from stages.core.process import Fault
from stages.envs.panel import load_panel
from stages.envs.webshop.environment import read_catalogue, read_spec
from stages.site.server import ShopServer, serve


class ShopError(Fault, OSError):
    """The address can't be had."""


def add_parser(commands: Any) -> None:
    """The command's own arguments."""
    parser = commands.add_parser("shop", help="serve a WebShop site with a panel's goals, until interrupted")
    parser.add_argument("--panel", default="test", help="whose task n the session fixed_<n> shops for (default: test)")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to (default: this machine alone)")
    parser.add_argument(
        "--port", type=int, default=3000, help="0 takes any free one (default: 3000, as the official site)"
    )
    parser.set_defaults(run=run)


def run(args: Namespace) -> int:
    """Serve until interrupted. Raises `ShopError` for an address that can't be had."""
    try:
        site = open_shop(Path("data/panels/webshop"), args.panel, args.host, args.port)
    except OSError as error:
        raise ShopError(f"cannot serve at {args.host}:{args.port}: {error}; choose another --port") from error
    with site:
        print(f"{site.url}/fixed_0 shops for the first goal of the panel {args.panel!r}; stop with Ctrl-C", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


def open_shop(root: Path, panel: str, host: str, port: int) -> ShopServer:
    """Serve a panel's goals; the session `fixed_<n>` shops for the panel's task n, from 0.

    Raises `PanelError` without the panel, `EnvironmentFault` without its catalogue, OSError when the address can't be had.
    """
    tasks, _ = load_panel(root, panel)
    specs = [read_spec(task) for task in tasks]
    catalogue = read_catalogue(root / specs[0].catalogue, specs[0].catalogue_sha256)
    return serve(catalogue, [spec.goal for spec in specs], host, port)
