"""The settings of `ip2p train`. Nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..training.finetune.settings import FinetuneSettings


@dataclass(kw_only=True)
class TrainSettings(FinetuneSettings):
    """Settings of `ip2p train`."""

    recipes: ClassVar[Path] = Path(__file__).parents[1] / "training" / "recipes"

    output: str | None = None
    """Folder of the run; the same command goes on with what is there. Default: run here."""
    dry_run: bool = False
    """Only tell how much memory a process takes, by component."""
