"""Settings of WebShop's panels: `panels.webshop` in params.yaml."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.core.sections import Count, Level, PanelSettings, Positive, Section, filled
from stages.panelling.webshop.nouns import SPACY_MODEL


class OfficialWebshop(Section):
    """How many goals of each official split, from its beginning on."""

    train: Positive
    dev: Annotated[int, Field(gt=0, le=1000)]
    test: Annotated[int, Field(gt=0, le=500)]


class WebshopPanels(PanelSettings):
    """`choose` says how goals become panels: `balanced` ones of `sizes`, without a product in common, or `official` ones as WebShop orders them,
    which may share products and texts."""

    source: Literal["generated", "official"]
    data_dir: str | None = None
    products: Count
    seed: Count
    goals: Literal["human", "synthetic"]
    view: Literal["papers", "text", "text_rich"]
    dialect: Literal["client", "text"]
    choose: Literal["official", "balanced"]
    official: OfficialWebshop
    sizes: dict[Literal["warmup", "train", "dev", "test"], dict[Literal["plain", "options"], Count]]

    @model_validator(mode="after")
    def _complete(self) -> WebshopPanels:
        if self.choose == "balanced":
            filled(self.sizes)
        elif self.goals != "human":
            raise ValueError(
                "choose 'official' takes the human goals, whose order and splits it follows; set goals to human"
            )
        if self.source == "official" and self.data_dir is None:
            raise ValueError("source 'official' needs data_dir, the folder with WebShop's items_*.json files")
        return self

    def size(self, panel: str) -> int:
        """How many goals a panel has; official panels have none for a warm-up."""
        if self.choose == "official":
            return int(self.official.model_dump().get(panel, 0))
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
        if lacking := [name for name in ("spacy", SPACY_MODEL) if importlib.util.find_spec(name) is None]:
            advice = f"pip install spacy; python -m spacy download {SPACY_MODEL}"
            found.append(
                (
                    "fault",
                    f"official titles need spaCy and its model for their nouns, {lacking[0]} is missing: {advice}",
                )
            )
        return found
