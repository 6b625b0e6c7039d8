"""WebShop's panels: goals over a generated catalogue in the official schema, or over the official files. No playing stage depends on this
package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stages.panelling.webshop.settings import WebshopPanels


def build(settings: WebshopPanels, out: Path, cache: Path, limit: Mapping[str, int | None]) -> None:
    """Write the panels of a study; see `stages.panels`. What opens the shop at once is kept in `cache`."""
    from stages.envs.webshop.catalogue import load_catalogue
    from stages.panelling.webshop.panels import CATALOGUE, build_panels  # not for those who only read the settings

    build_panels(settings, out, limit)
    load_catalogue(out / CATALOGUE, cache)
