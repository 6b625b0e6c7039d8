"""Settings of ALFWorld's panels: `panels.alfworld` in params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from stages.core.files import settled
from stages.core.sections import Count, Level, PanelSettings, Positive, Section, filled
from stages.envs.panel import PanelError

Category = Literal["put", "examine", "clean", "puttwo", "heat", "cool"]


class AlfworldCounts(Section):
    train: Count
    valid_seen: Count
    valid_unseen: Count


class OfficialAlfworld(Section):
    data_dir: str | None
    train: Positive
    dev: Positive
    warmup: Count
    shared_goals: Literal["drop", "keep"]
    counts: AlfworldCounts | None


class AlfworldPanels(PanelSettings):
    source: Literal["generated", "official"]
    seed: Count
    sizes: dict[Literal["warmup", "train", "dev", "test"], dict[Category, Count]]
    official: OfficialAlfworld

    @model_validator(mode="after")
    def _complete(self) -> AlfworldPanels:
        if self.source == "generated":
            filled(self.sizes)
        return self

    @property
    def measured(self) -> tuple[str, ...]:
        """`test_seen`, the official valid_seen games, is there where the games are official."""
        return ("dev", "test", "test_seen") if self.source == "official" else ("dev", "test")

    def size(self, panel: str) -> int:
        """How many games a panel has; of official ones without counts, as many as the release."""
        if self.source == "generated":
            return sum(count for name, counts in self.sizes.items() if name == panel for count in counts.values())
        counts = self.official.counts or AlfworldCounts(train=3553, valid_seen=140, valid_unseen=134)
        drawn = {"train": self.official.train, "dev": self.official.dev, "warmup": self.official.warmup}
        return {**drawn, "test": counts.valid_unseen, "test_seen": counts.valid_seen}[panel]

    def inspect(self) -> list[tuple[Level, str]]:
        """Whether the official games, or their archive, are here."""
        if self.source == "generated":
            return [("ok", "games are generated; their scores are no benchmark numbers")]
        from stages.panelling.alfworld.official import draw, find_root, read_games
        from stages.panelling.alfworld.release import ARCHIVE, DOWNLOADS

        if self.official.data_dir is None:
            archive = DOWNLOADS / ARCHIVE.name
            if archive.is_file():
                return [("ok", f"the release archive is here: {archive}")]
            return [("note", f"the panels stage will download the release archive from {ARCHIVE.url}")]
        try:
            root = find_root(settled(self.official.data_dir))
            games = read_games(root, self.official.counts.model_dump() if self.official.counts else None)
            drawn = draw(games, self.official, self.seed)
        except PanelError as error:
            return [("fault", str(error))]
        found = ", ".join(f"{len(chosen):,} {panel}" for panel, chosen in drawn.panels.items())
        return [("ok", f"official games in {root}: {found}")]
