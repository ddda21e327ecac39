"""Makes parts by workers of Ray, on this machine or on many: one task is one triplet, with all its candidates.

Each worker is an actor with models of its own and, where there are some, a GPU or a share of one. Parts come back to
this process, which writes them. A worker that dies is started again, and its triplet made again.
"""

import logging
import math
import os
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError, RayTaskError

from ...ip2p_pipeline.errors import first_line
from .maker import PairMaker
from .maker_settings import MakerSettings
from .parts import Work

RETRIES = 3
IN_FLIGHT = 2  # triplets of a worker: one is made, and one waits, so that no worker waits for this process
PATIENCE = 60.0  # seconds until the user is told that there is no worker
logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class RayEngine:
    """Workers of Ray."""

    workers: int = 1
    gpus_per_worker: float | None = None
    """GPUs of each, such as 0.5 for two on one; None for one each where there are GPUs."""
    address: str | None = None
    """Of a running cluster, such as auto; None starts one on this machine, and ends it with the run."""

    def run(self, settings: MakerSettings, work: Iterable[Work]) -> Generator[tuple[int, pa.Table], None, None]:
        """Each triplet's place and part, in the order in which they are done."""
        ours = not ray.is_initialized()
        if ours:
            self.start()
        workers: list[Any] = []
        try:
            gpus = self.gpus_per_worker
            if gpus is None:
                gpus = float(ray.cluster_resources().get("GPU", 0) > 0)
            if ours and self.address is None:
                check_room(self.workers, gpus)
            actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=RETRIES)(Worker)
            workers = [actor.remote(settings) for _ in range(self.workers)]
            yield from spread(workers, iter(work))
        except RayTaskError:
            raise  # a mistake of ours, as in one process
        except RayError as error:
            raise OSError(
                f"Ray gave up ({first_line(error)}): a worker that dies {RETRIES + 1} times on one triplet has most "
                "often too little memory, so try fewer --workers. What is done is kept; the same command goes on."
            ) from error
        finally:
            if ours:
                ray.shutdown()
            else:
                for worker in workers:
                    ray.kill(worker)

    def start(self) -> None:
        """Join the cluster, or start one here."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # as much of the CPU as this process would have
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address is None:
            ray.init(num_cpus=self.workers, include_dashboard=False, **quiet)
            return
        try:
            ray.init(self.address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConnectionError(
                f"There is no Ray cluster at {self.address} ({first_line(error)}): start one with `ray start --head`."
            ) from error


class Worker:
    """What runs in a worker."""

    def __init__(self, settings: MakerSettings) -> None:
        if not ray.get_gpu_ids() and settings.device is None:
            settings = replace(settings, device="cpu")
        self.maker = PairMaker(settings)

    def ready(self) -> None:
        """Answered when the worker is there."""

    def make(self, *work: Any) -> tuple[int, pa.Table] | Exception:
        """A triplet's place and part, or why the run can't go on."""
        try:
            return work[0], self.maker.make(*work)
        except (MemoryError, OSError, ValueError) as error:
            # As one of these three, for a library's own errors may not survive the way to another process.
            kind = next(kind for kind in (MemoryError, OSError, ValueError) if isinstance(error, kind))
            return kind(str(error))


def spread(workers: list[Any], work: Iterator[Work]) -> Iterator[tuple[int, pa.Table]]:
    """Give each worker, once it is there, its next triplet as soon as it has done one."""
    starting = {worker.ready.remote(): worker for worker in workers}
    busy: dict[Any, Any] = {}
    left = True
    while busy or (starting and left):
        done, _ = ray.wait([*busy, *starting], timeout=PATIENCE)
        if not done and not busy:
            free = ray.available_resources()
            logger.warning(
                f"No worker has started yet: Ray has {free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs free."
            )
        for ref in done:
            made = ray.get(ref)
            if isinstance(made, Exception):
                raise made
            worker = starting.pop(ref) if ref in starting else busy.pop(ref)
            for _ in range(IN_FLIGHT if made is None else 1):
                each = next(work, None)
                left = each is not None
                if each is not None:
                    busy[worker.make.remote(*each)] = worker
            if made is not None:
                yield made


def check_room(workers: int, gpus: float) -> None:
    """Refuse more workers than this machine's GPUs have room for."""
    there = ray.cluster_resources().get("GPU", 0)
    room = math.inf if not gpus else there * math.floor(1 / gpus) if gpus <= 1 else there // gpus
    if workers > room:
        raise ValueError(
            f"{workers} workers with {gpus:g} GPUs each don't fit on this machine's {there:g}: give fewer --workers or "
            "a smaller --gpus-per-worker, or 0 for the CPU."
        )
