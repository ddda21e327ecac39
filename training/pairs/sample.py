"""A sample of a dataset's triplets with their pairs, found without reading the pictures of others."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from .candidates import digest
from .shards import opened, read_shard

MOST_PAIRS = 4  # of a triplet


@dataclass(frozen=True, order=True)
class Place:
    """Where the pairs of a triplet are: rows of a file that follow one another."""

    file: Path
    first: int
    rows: int


def sample_triplets(files: Sequence[Path], count: int, seed: int) -> list[list[dict[str, Any]]]:
    """The pairs of some triplets, at most four of each, in the dataset's order; in memory are those alone.

    A triplet's chance is a hash of the seed and its id: the sample depends neither on the order of rows nor on others.
    """
    chosen: list[tuple[int, Place]] = []  # a heap, the worst first
    for file in files:
        for place, name in runs(file):
            entry = (-int(digest(f"{seed}/{name}"), 16), place)
            if len(chosen) < count:
                heapq.heappush(chosen, entry)
            elif count:
                heapq.heappushpop(chosen, entry)
    return [read_rows(place) for place in sorted(place for _, place in chosen)]


def runs(file: Path) -> Iterator[tuple[Place, str]]:
    """The triplets of a file, each with its id; without ids, every row is one."""
    names = ids(file)
    first = 0
    for name, rows in groupby(names):
        length = sum(1 for _ in rows)
        yield Place(file, first, length), name
        first += length


def ids(file: Path) -> Iterator[str]:
    """The triplet's id of every row."""
    with opened(file) as parquet:
        known = "triplet_id" in parquet.schema_arrow.names
        rows = parquet.metadata.num_rows
    if not known:
        yield from (f"{file.name}/{row}" for row in range(rows))
        return
    row = 0
    for table in read_shard(file, ["triplet_id"], rows=1 << 14):
        for name in table["triplet_id"].to_pylist():
            yield name or f"{file.name}/{row}"
            row += 1


def read_rows(place: Place) -> list[dict[str, Any]]:
    """The first rows at a place."""
    wanted = range(place.first, place.first + min(place.rows, MOST_PAIRS))
    found: list[dict[str, Any]] = []
    with opened(place.file) as parquet:
        start = 0
        for group in range(parquet.metadata.num_row_groups):
            end = start + parquet.metadata.row_group(group).num_rows
            if start < wanted.stop and wanted.start < end:
                first = max(wanted.start - start, 0)
                table = parquet.read_row_group(group)
                found += table.slice(first, min(wanted.stop, end) - start - first).to_pylist()
            start = end
    return found
