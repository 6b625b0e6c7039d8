"""ALFWorld's panels: games generated in the official formats, or the official ones. No playing stage depends on this package."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import stages.envs.alfworld  # noqa: F401  # before alfworld itself is imported: see there
from stages.panelling import STUDY
from stages.panelling.alfworld.settings import AlfworldPanels


def build(
    settings: AlfworldPanels,
    out: Path,
    cache: Path,
    limit: Mapping[str, int | None],
    names: Collection[str] = STUDY,
) -> None:
    """Write the panels of these names; see `stages.panels`."""
    from stages.panelling.alfworld import official_panels, panels  # not for those who only read the settings

    if settings.source == "official":
        official_panels.build_panels(settings, out, cache, cache.parent / "downloads", limit, names)
    else:
        panels.build_panels(settings, out, cache, limit, names)
