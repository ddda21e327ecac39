"""Makes parts in this process, one after the other."""

from collections.abc import Generator, Iterable

import pyarrow as pa

from .maker import PairMaker
from .maker_settings import MakerSettings
from .parts import Work


class LocalEngine:
    """One process."""

    def run(self, settings: MakerSettings, work: Iterable[Work]) -> Generator[tuple[int, pa.Table], None, None]:
        """Each triplet's place and part, in order."""
        maker = PairMaker(settings)
        for each in work:
            yield each.place, maker.make(*each)
