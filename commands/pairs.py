"""`ip2p dataset pairs`: the image stage as a command."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..training.pairs.candidates import PairTriplet, draw_groups
from ..training.pairs.triplet_files import read_triplets
from .pairs_settings import PairsSettings
from .report import complain, say

if TYPE_CHECKING:
    from ..training.pairs.run import Engine

MEASURED = 1000  # triplets whose evaluations are counted, and stand for all
RESOLUTION = {"shapes": 64}
FILE_BYTES = {"jpg": 0.4, "png": 1.8}  # a pixel of a photograph


def pairs(settings: PairsSettings) -> int:
    """Make the dataset of pairs, or with `dry_run` tell what it takes. Gives the exit status."""
    triplets = read_triplets(settings.triplets, settings.limit)
    if settings.dry_run:
        say(estimate(triplets, settings))
        return 0
    from ..training.pairs.run import make_pairs
    from .models import quiet

    quiet()
    folder = Path(settings.output or "pairs")
    engine = make_engine(settings)
    try:
        report = make_pairs(triplets, folder, settings, engine, settings.shard_triplets, settings.refilter)
    except KeyboardInterrupt:
        complain(f"stopped: the triplets that are done are in {folder}, and the same command goes on from there.")
        return 130
    say(
        f"{folder}  {report['kept']:,} pairs of {report['candidates']:,} candidates, for {report['with_pairs']:,} of "
        f"{report['triplets']:,} triplets; see {folder / 'report.json'}"
    )
    if report["failed"]:
        problem, count = max(report["problems"].items(), key=lambda each: each[1])
        complain(f"{report['failed']:,} triplets failed, {count:,} of them so: {problem}")
    return 0


def check_engine(settings: PairsSettings) -> None:
    """Raise ValueError where what the engine needs is not installed."""
    if settings.engine == "ray" and find_spec("ray") is None:
        raise ValueError('--engine ray needs Ray: pip install "ip2p[ray]", or in a clone pip install -e ".[ray]".')


def make_engine(settings: PairsSettings) -> "Engine":
    """What makes the pairs. Its libraries are imported when it is chosen."""
    check_engine(settings)
    if settings.engine == "process":
        from ..training.pairs.local_engine import LocalEngine

        return LocalEngine()
    from ..training.pairs.ray_engine import RayEngine

    return RayEngine(workers=settings.workers, gpus_per_worker=settings.gpus_per_worker, address=settings.ray_address)


def estimate(triplets: Sequence[PairTriplet], settings: PairsSettings) -> str:
    """What a run takes, in a sentence."""
    from ..training.pairs.trajectories import count_evaluations

    measured = [count_evaluations(draw_groups(triplet, settings), settings) for triplet in triplets[:MEASURED]]
    evaluations = round(sum(measured) / len(measured) * len(triplets))
    candidates = len(triplets) * settings.seeds * settings.per_seed
    # The scheme of the original: each candidate's two pictures under two prompts.
    one_by_one = candidates * settings.steps * 4
    side = settings.resolution or RESOLUTION.get(settings.model, 512)
    size = len(triplets) * settings.max_per_triplet * 2 * side**2 * FILE_BYTES[settings.image_format]
    return (
        f"{len(triplets):,} triplets, {candidates:,} candidates: about {evaluations:,} samples through the U-Net "
        f"({one_by_one / evaluations:.1f} times fewer than one candidate at a time), and at most {bytes_told(size)} of "
        f"pictures at {side} pixels."
    )


def bytes_told(count: float) -> str:
    """A size in decimal units."""
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:,.1f} {unit}"
    return f"{count / 1000:,.1f} TB"
