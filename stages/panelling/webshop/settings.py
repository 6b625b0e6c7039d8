"""Settings of WebShop's panels: `panels.webshop` in params.yaml."""

from __future__ import annotations

import importlib.util
from typing import Literal

from pydantic import model_validator

from stages.core.sections import Count, Level, PanelSettings, filled


class WebshopPanels(PanelSettings):
    source: Literal["generated", "official"]
    data_dir: str | None = None
    products: Count
    seed: Count
    goals: Literal["human", "synthetic"]
    view: Literal["papers", "text", "text_rich"]
    dialect: Literal["client", "text"]
    sizes: dict[Literal["warmup", "train", "dev", "test"], dict[Literal["plain", "options"], Count]]

    @model_validator(mode="after")
    def _complete(self) -> WebshopPanels:
        filled(self.sizes)
        if self.source == "official" and self.data_dir is None:
            raise ValueError("source 'official' needs data_dir, the folder with WebShop's items_*.json files")
        return self

    def size(self, panel: str) -> int:
        """How many goals a panel has."""
        return sum(count for name, counts in self.sizes.items() if name == panel for count in counts.values())

    def inspect(self) -> list[tuple[Level, str]]:
        """Whether the official files are here, and what reads the nouns of their titles."""
        if self.source == "generated" or self.data_dir is None:
            return [("ok", "the shop is generated; its scores are no benchmark numbers")]
        from stages.panelling.webshop.release import WebshopRelease

        release = WebshopRelease(self)
        found: list[tuple[Level, str]] = [("fault", line) for line in release.lacking()]
        if not found:
            found.append(("ok", f"official files in {release.place}"))
        if importlib.util.find_spec("spacy") is None:
            found.append(("fault", "official titles need spaCy for their nouns: pip install spacy"))
        return found
