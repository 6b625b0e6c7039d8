"""A WebShop site over a frozen panel, for browsers and for clients written against the official site."""

from __future__ import annotations

from pathlib import Path

from stages.envs.panel import load_panel
from stages.envs.webshop.environment import read_catalogue, read_spec
from stages.site.server import ShopServer, serve


def open_shop(root: Path, panel: str, host: str, port: int) -> ShopServer:
    """Serve a panel's goals; the session `fixed_<n>` shops for the panel's task n, from 0.

    Raises `PanelError` without the panel, `EnvironmentFault` without its catalogue, OSError when the address can't be had.
    """
    tasks, _ = load_panel(root, panel)
    specs = [read_spec(task) for task in tasks]
    catalogue = read_catalogue(root / specs[0].catalogue, specs[0].catalogue_sha256)
    return serve(catalogue, [spec.goal for spec in specs], host, port)
