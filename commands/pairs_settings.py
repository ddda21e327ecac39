"""The settings of `ip2p dataset pairs`. Nothing heavy is imported here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..training.pairs.maker_settings import MakerSettings


@dataclass(kw_only=True)
class PairsSettings(MakerSettings):
    """Settings of `ip2p dataset pairs`."""

    triplets: Path
    """Folder of `ip2p dataset instructions`, or a .parquet or .jsonl file of triplets."""
    output: str | None = None
    """Folder of the dataset; the same command goes on with what is there. Default: pairs here."""
    limit: int | None = None
    """Only the first N triplets. A run on them goes on with a larger N."""
    engine: Literal["process", "ray"] = "process"
    """What makes the pairs: this process, or workers of Ray on this machine or a cluster."""
    workers: int = 1
    """Workers of Ray."""
    gpus_per_worker: float | None = None
    """GPUs of each worker of Ray; 0.5 for two workers on one, 0 for the CPU. Default: 1 where Ray has GPUs, else 0."""
    ray_address: str | None = None
    """Address of a running Ray cluster, or auto. Default: Ray is started on this machine, and ended with the run."""
    shard_triplets: int = 256
    """Triplets of each Parquet file of the dataset."""
    refilter: Path | None = None
    """Folder of an earlier run on these triplets: its candidates are judged again by other thresholds, and rendered are
    only winners whose pictures it did not keep."""
    dry_run: bool = False
    """Only count the U-Net's evaluations, and the storage."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("limit", "workers", "shard_triplets"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} is at least 1, not {value}.")
        if self.gpus_per_worker is not None and not 0 <= self.gpus_per_worker < float("inf"):
            raise ValueError(f"--gpus-per-worker is at least 0, not {self.gpus_per_worker}.")
        if self.engine == "process" and (self.workers != 1 or self.gpus_per_worker is not None or self.ray_address):
            raise ValueError("--workers, --gpus-per-worker and --ray-address are Ray's: give --engine ray.")
