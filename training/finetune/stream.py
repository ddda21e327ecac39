"""A dataset of the Hub trained on as it comes, without being kept."""

from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any, NamedTuple

from .crops import opened
from .encode import Encoder
from .examples import CAPTIONS, Example, as_example
from .material import Pair, PairEncoder, crop_all, crop_pair
from .order import rng_of
from .settings import FinetuneSettings
from .sources import INVERSE, TURNED

BUFFER = 1000  # rows, of which each next one is drawn


class StreamPlace(NamedTuple):
    """A place in a batch, and the example that it takes."""

    number: int
    example: Example
    before: Example  # it, should this one's pictures be damaged


def triplet_of(told: dict[str, Any]) -> str | None:
    """What tells a row's triplet from others: its id, else its texts where it has captions."""
    if told.get("triplet_id") is not None:
        return str(told["triplet_id"])
    texts = [told.get(name) for name in (*CAPTIONS, "edit_prompt")]
    return "\n".join(map(str, texts)) if all(texts) else None


class Stream(PairEncoder):
    """The order of a stream, shuffled within a buffer, and its pictures, for `Batches`.

    A training that goes on reads up to where it was. The first rows are held out, and with them all of their triplets.
    """

    def __init__(self, rows: Any, encoder: Encoder, settings: FinetuneSettings) -> None:
        """`rows` is what `sources.open_rows` gives with --streaming."""
        super().__init__(encoder)
        self.settings = settings
        self.problems: Counter[str] = Counter()
        first = list(rows.take(settings.held_out))
        self.kept_back = [each for told in first if (each := self.readable(told)) is not None]
        self.held = {name for told in first if (name := triplet_of(told)) is not None}
        self.rows = rows.skip(settings.held_out).shuffle(settings.seed, buffer_size=BUFFER)

    def readable(self, told: dict[str, Any]) -> Example | None:
        """A row, if its pictures can be opened; else that is counted."""
        try:
            example = as_example("a row of the stream", told)
            opened(example)
            return example
        except ValueError as error:
            self.problems[str(error)] += 1
            return None

    def examples(self) -> Iterator[Example]:
        """All rows with an instruction, epoch by epoch."""
        for epoch in count():
            self.rows.set_epoch(epoch)
            found = False
            for told in self.rows:
                if not (told["edit_prompt"] or "").strip() or triplet_of(told) in self.held:
                    continue
                try:
                    yield as_example("a row of the stream", told)
                    found = True
                    if (told.get(INVERSE) or "").strip():
                        turned = {TURNED[name]: value for name, value in told.items() if name in TURNED}
                        yield as_example("a row of the stream", turned)
                except ValueError as error:
                    self.problems[str(error)] += 1
            if not found:
                raise ValueError(
                    "The data has no row with pictures and an instruction, but for the first "
                    f"{self.settings.held_out:,}, which --held-out keeps: there is nothing to train on."
                )

    def batches(self, first: int, stride: int) -> Iterator[list[StreamPlace]]:
        """Every so many batches from the first on, without end."""
        size = self.settings.batch_size
        group: list[StreamPlace] = []
        before: Example | None = None
        for number, example in enumerate(self.examples()):
            batch = number // size
            if batch >= first and (batch - first) % stride == 0:
                group.append(StreamPlace(number, example, before or example))
                if len(group) == size:
                    yield group
                    group = []
            before = example

    def prepare(self, place: StreamPlace) -> Pair | None:
        """The pair of a place, or where that can't be read the one before it; None where neither can."""
        size = (self.settings.resolution, self.settings.resolution)
        for example in (place.example, place.before):
            try:
                return crop_pair(example, size, rng_of(self.settings.seed, "pair", place.number), self.settings)
            except ValueError as error:
                self.problems[str(error)] += 1
        return None

    def held_out(self) -> list[Pair]:
        """Pairs that are not trained on, as far as they can be read."""
        return crop_all(self.kept_back, self.settings)
