"""Which example each place of each batch takes: a function of the run's seed and the place alone.

So any number of processes, with or without accumulation, sees the same examples in the same optimizer steps, and a run
that was stopped goes on with the next.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

Size = tuple[int, int]  # height, width in pixels


@dataclass(frozen=True)
class Place:
    """A place in a batch: the size that its pictures are cropped to, and the triplet that it takes.

    number: of the place, counted through the whole training
    """

    number: int
    size: Size
    triplet: int


class Order:
    """Batches of one size each; an epoch has every triplet once, but for those that fill up a size's last batch.

    members: the triplets of each size, by their numbers
    """

    def __init__(self, members: Mapping[Size, Sequence[int]], batch_size: int, seed: int) -> None:
        self.members = {size: np.asarray(each) for size, each in sorted(members.items()) if len(each)}
        self.batch_size, self.seed = batch_size, seed
        self.batches_of_epoch = sum(-(-len(each) // batch_size) for each in self.members.values())
        self._epoch = -1
        self._batches: list[tuple[Size, np.ndarray]] = []

    def batches(self, first: int, stride: int) -> Iterator[list[Place]]:
        """Every so many batches from the first on, without end."""
        return map(self.batch, count(first, stride))

    def batch(self, number: int) -> list[Place]:
        """The batch of that number, counted through all epochs and processes."""
        epoch, index = divmod(number, self.batches_of_epoch)
        if epoch != self._epoch:
            self._batches, self._epoch = self._shuffled(epoch), epoch
        size, triplets = self._batches[index]
        first = number * self.batch_size
        return [Place(first + at, size, int(triplet)) for at, triplet in enumerate(triplets)]

    def _shuffled(self, epoch: int) -> list[tuple[Size, np.ndarray]]:
        batches: list[tuple[Size, np.ndarray]] = []
        rng = np.random.default_rng([self.seed, epoch])
        for size, members in self.members.items():
            order = rng.permutation(members)
            full = -(-len(order) // self.batch_size) * self.batch_size
            batches += [(size, part) for part in np.resize(order, full).reshape(-1, self.batch_size)]
        return [batches[at] for at in rng.permutation(len(batches))]


def rng_of(seed: int, *names: object) -> random.Random:
    """A generator of its own for what the names tell."""
    return random.Random("/".join(map(str, (seed, *names))))


def seed_of(seed: int, *names: object) -> int:
    """A seed of 63 bits for what the names tell."""
    told = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:8], "big") >> 1
