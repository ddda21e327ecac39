"""The settings of `ip2p dataset import` and `ip2p dataset show`. Nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .instructions_settings import ShowSettings


@dataclass(kw_only=True)
class ImportSettings:
    """Settings of `ip2p dataset import`."""

    source: str
    """Folder of the dataset; a CSV file; for MagicBrush also Parquet files or the id on the Hub, osunlp/MagicBrush."""
    layout: Literal["original", "magicbrush", "csv"] | None = None
    """How it is laid out. "original": InstructPix2Pix's own code and its authors' release; "magicbrush"; "csv":
    pictures and a CSV file with the columns before, after, instruction and, if there are any, original_prompt,
    edited_prompt, mask, kind. Always to be given."""
    output: str | None = None
    """Folder of the result; the same command goes on with what is there. Default: pairs-LAYOUT here."""
    split: str = "train"
    """Split of MagicBrush: train or dev. Its dev split is a benchmark, not for training."""
    shard_rows: int = 256
    """Rows, or for the original layout triplets, of each Parquet file."""

    def __post_init__(self) -> None:
        if self.layout is None:
            raise ValueError("Say how the dataset is laid out: --layout original, magicbrush or csv.")
        if self.shard_rows < 1:
            raise ValueError(f"--shard-rows is at least 1, not {self.shard_rows}.")


@dataclass(kw_only=True)
class ShowDatasetSettings(ShowSettings):
    """Settings of `ip2p dataset show`."""

    html: Path | None = None
    """Write a page here, with pictures and scores, for a dataset of pairs."""
