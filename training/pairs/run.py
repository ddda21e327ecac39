"""Triplets in, pairs out: what a run's folder lacks is made by an engine, and kept triplet by triplet."""

from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from tqdm import tqdm

from .candidates import PairTriplet
from .features import FAILED, KEPT
from .maker_settings import MakerSettings
from .parts import Work
from .refilter import check_earlier, earlier_work
from .store import Store


class Engine(Protocol):
    """What makes parts, here or on many machines."""

    def run(self, settings: MakerSettings, work: Iterable[Work]) -> Generator[tuple[int, pa.Table], None, None]:
        """Each triplet's place and part, in any order. Closing it ends the work."""


def make_pairs(
    triplets: Sequence[PairTriplet],
    folder: Path,
    settings: MakerSettings,
    engine: Engine,
    shard_triplets: int = 256,
    earlier: Path | None = None,
) -> dict[str, Any]:
    """Make the pairs that a run's folder lacks, and give the run's report.

    `earlier` is the folder of a run of the same triplets: its candidates are judged again instead of drawn. Whatever
    ends the run, the triplets that are done stay, and the next call goes on from them.
    """
    if earlier is not None:
        if earlier.resolve() == folder.resolve():
            raise ValueError(f"{folder} can't be judged again in place: give another --output.")
        check_earlier(earlier, settings)
    with Store(folder, triplets, settings.row_settings(), shard_triplets) as store:
        pending = store.pending()
        work: Iterable[Work] = (Work(place, triplets[place]) for place in pending)
        if earlier is not None:
            work = earlier_work(earlier, triplets, pending, settings)
        counts: Counter[str] = Counter()
        with (
            closing(engine.run(settings, work)) as parts,
            tqdm(total=len(triplets), initial=len(triplets) - len(pending), desc="pairs", unit="triplet") as bar,
        ):
            for place, part in parts if pending else ():
                store.add(place, part)
                counts.update(part["verdict"].to_pylist())
                bar.set_postfix_str(progress(counts), refresh=False)
                bar.update()
        return store.finish()


def progress(counts: Counter[str]) -> str:
    """The share of candidates that are kept, and the triplets that failed."""
    drawn = counts.total() - counts[FAILED]
    told = f"kept {counts[KEPT] / drawn:.0%}" if drawn else "kept 0%"
    return f"{told}, failed {counts[FAILED]:,}" if counts[FAILED] else told
