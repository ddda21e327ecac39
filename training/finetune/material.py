"""What batches are made of where nothing is cached: pictures, read and cropped ahead, and encoded as they come."""

import random
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

from ...ip2p_pipeline.text import Text
from .crops import cropped, draw_crop, may_mirror, nearest, opened, sizes
from .encode import Encoder, Latents
from .examples import Example, Examples
from .order import Place, Size, rng_of
from .settings import FinetuneSettings

TRIES = 8
"""Examples that are tried for a place in a batch. So few that data of which most is damaged are told of."""


class Pair(NamedTuple):
    """A pair, cropped: pictures [3, h, w] in 0…1, the instruction, and SDXL's sizes [6]."""

    before: Tensor
    after: Tensor
    text: str
    time_ids: Tensor


def crop_pair(example: Example, size: Size, rng: random.Random, settings: FinetuneSettings) -> Pair:
    """Cut both pictures of an example alike. Raises ValueError where they can't be read."""
    before, after = opened(example)
    enlarged = (settings.resize_max or settings.resolution * 9 / 8) / settings.resolution
    mirror = settings.flip if may_mirror(example) else 0.0
    crop = draw_crop(rng, (before.height, before.width), size, enlarged, mirror)
    told = [before.height, before.width, crop.top, crop.left, *size]
    return Pair(
        cropped(before, crop, size),
        cropped(after, crop, size),
        example.edit_prompt,
        torch.tensor(told, dtype=torch.float),
    )


class PairEncoder:
    """Encodes pairs and instructions when they are needed."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def latents(self, pairs: list[Pair]) -> Latents:
        """The latents of pairs of one size."""
        before, after = (torch.stack([getattr(pair, name) for pair in pairs]) for name in ("before", "after"))
        return self.encoder.pictures(before, after)

    def texts(self, texts: list[str]) -> Text:
        """The embeddings of instructions; "" is ∅."""
        different = list(dict.fromkeys(texts))
        encoded = self.encoder.texts(different)
        which = [different.index(text) for text in texts]
        return Text(encoded.embeds[which], None if encoded.pooled is None else encoded.pooled[which])


class Pictures(PairEncoder):
    """Examples as they are, for `Batches`.

    members:  the triplets of each size
    problems: what was wrong with examples that could not be read, with the number of times
    """

    def __init__(self, examples: Examples, encoder: Encoder, settings: FinetuneSettings) -> None:
        super().__init__(encoder)
        self.examples, self.settings = examples, settings
        self.problems: Counter[str] = Counter()
        known = sizes(settings.resolution, settings.buckets)
        self.members: dict[Size, list[int]] = {size: [] for size in known}
        for triplet, rows in enumerate(examples.triplets):
            self.members[self._size(rows[0], known)].append(triplet)

    def _size(self, row: int, known: list[Size]) -> Size:
        if len(known) == 1:
            return known[0]
        try:
            before, _ = opened(self.examples[row])
        except ValueError:
            return known[0]  # where it is drawn, it is told
        return nearest((before.height, before.width), known)

    def prepare(self, place: Place) -> Pair | None:
        """The pair of a place, a random one of its triplet, or where that can't be read of another; None where none of
        several can."""
        rng = rng_of(self.settings.seed, "pair", place.number)
        triplet = place.triplet
        for _ in range(TRIES):
            row = rng.choice(self.examples.triplets[triplet])
            try:
                return crop_pair(self.examples[row], place.size, rng, self.settings)
            except ValueError as error:
                self.problems[str(error)] += 1
            triplet = rng.choice(self.members[place.size])
        return None

    def held_out(self) -> list[Pair]:
        """Pairs that are not trained on, as far as they can be read."""
        return crop_all(readable(self.examples, self.examples.held_out), self.settings)


def readable(examples: Examples, rows: Iterable[int]) -> list[Example]:
    """Rows whose pictures can be opened."""
    found = []
    for row in rows:
        with suppress(ValueError):
            example = examples[row]
            opened(example)
            found.append(example)
    return found


def crop_all(examples: list[Example], settings: FinetuneSettings) -> list[Pair]:
    """Examples to validate on, cropped to squares, always in the same way; without those that can't be read."""
    pairs, size = [], (settings.resolution, settings.resolution)
    for number, example in enumerate(examples):
        with suppress(ValueError):
            pairs.append(crop_pair(example, size, rng_of(settings.seed, "held out", number), settings))
    return pairs
