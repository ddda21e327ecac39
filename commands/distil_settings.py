"""The settings of `ip2p distil`. Nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..training.distill.settings import DistilSettings


@dataclass(kw_only=True)
class DistilCommandSettings(DistilSettings):
    """Settings of `ip2p distil`."""

    recipes: ClassVar[Path] = Path(__file__).parents[1] / "training" / "recipes"

    output: str | None = None
    """Folder of the run; the same command goes on with what is there. Default: distilled here."""
