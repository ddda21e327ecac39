"""Pairs that others made, brought into our format: layouts of datasets, read row by row, and written by shards.

A layout tells its units in order, each a triplet or a row, and reads the examples of one. A shard holds the examples of
a fixed number of units, and tells in its own metadata what was skipped: a stopped import goes on with the next shard.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from tqdm import tqdm

from ..files import write_whole
from .card import imported_card
from .features import EXAMPLES_SCHEMA, PICTURES, picture_column
from .pictures import SkipError, checked, mask
from .run_folder import claimed, data_path, read_settings, refuse_other, refuse_strange
from .shards import new_shard, opened

UNITS = 256  # of a shard
NOTE = "ip2p.import"
MOST_PROBLEMS = 50  # told one by one
LONGEST = 4000  # characters of a text
APART = 0.02  # by which the aspects of two pictures of a pair may differ


class Layout(Protocol):
    """A dataset of others."""

    source: str
    """What the rows' column `source` says."""

    def identity(self) -> dict[str, Any]:
        """What the rows depend on, as JSON, with the place as `from`: a stopped import goes on only with the same."""

    def count(self) -> int | None:
        """How many units there are, None where that is not known beforehand."""

    def units(self, start: int) -> Iterator[Any]:
        """The units in order, without the first ones."""

    def read(self, unit: Any) -> Iterator[dict[str, Any] | SkipError]:
        """The rows of a unit, with files of pictures as bytes, and in place of one that can't be read why not.

        A row has `name`, for messages, and columns of `features.EXAMPLES`; those left out are null.
        """


@dataclass
class ImportReport:
    """What was read, and why rows were skipped."""

    units: int = 0
    examples: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Rows by reason."""
    problems: list[str] = field(default_factory=list)
    """Some of them, one by one."""

    def skip(self, error: SkipError) -> None:
        """Count a row that is skipped."""
        self.skipped[error.reason] += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(clean(str(error))[:300])

    def add(self, other: "ImportReport") -> None:
        """Count what another report tells, too."""
        self.units += other.units
        self.examples += other.examples
        self.skipped += other.skipped
        self.problems = [*self.problems, *other.problems][:MOST_PROBLEMS]

    def told(self) -> dict[str, Any]:
        """The report as JSON."""
        return {**vars(self), "skipped": dict(self.skipped.most_common())}


def import_pairs(layout: Layout, folder: Path, shard_units: int = UNITS) -> ImportReport:
    """Write a dataset in our format: data/train-NNNNN.parquet, README.md and report.json.

    Shards that are there are kept. Raises ValueError where the folder holds something else, and where no row at all
    could be taken.
    """
    with claimed(folder):
        identity = layout.identity()
        start_import(folder, identity | {"shard_units": shard_units})
        report = ImportReport()
        block = 0
        while data_path(folder, block).exists():
            report.add(told_by(data_path(folder, block)))
            block += 1
        units = iter(layout.units(block * shard_units))
        with tqdm(total=layout.count(), initial=report.units, desc="importing", unit="row") as bar:
            for first in units:
                shard = chain([first], islice(units, shard_units - 1))
                report.add(write_shard(layout, shard, data_path(folder, block), bar))
                block += 1
        told = report.told()
        write_whole(folder / "README.md", imported_card(folder, layout.source, identity, told).encode())
        write_whole(folder / "report.json", json.dumps(told, indent=2).encode())
    if not report.examples:
        why = ", ".join(f"{reason} {count:,}" for reason, count in report.skipped.most_common()) or "it is empty"
        raise ValueError(f"Nothing of {identity['from']} could be imported ({why}): see {folder / 'report.json'}.")
    return report


def start_import(folder: Path, settings: dict[str, Any]) -> None:
    """Begin, or go on with, an import; another run's folder is refused."""
    settings = json.loads(json.dumps(settings))
    told = read_settings(folder)
    if told is None:
        refuse_strange(folder)
        write_whole(folder / "settings.json", json.dumps(settings, indent=2).encode())
    else:
        refuse_other(folder, told, settings)


def write_shard(layout: Layout, units: Iterable[Any], path: Path, bar: tqdm) -> ImportReport:
    """Write the examples of some units, and tell what was skipped."""
    report = ImportReport()
    with new_shard(path, EXAMPLES_SCHEMA) as shard:
        for unit in units:
            for row in layout.read(unit):
                try:
                    if isinstance(row, SkipError):
                        raise row
                    shard.add(example(row, layout.source))
                    report.examples += 1
                except SkipError as error:
                    report.skip(error)
            report.units += 1
            bar.update()
        shard.note(NOTE, json.dumps(report.told()))
    return report


def told_by(path: Path) -> ImportReport:
    """What a shard tells of its own making."""
    with opened(path) as file:
        note = (file.metadata.metadata or {}).get(NOTE.encode())
    if note is None:
        raise ValueError(f"{path} is no shard of an import: give another --output.")
    told = json.loads(note)
    return ImportReport(**{**told, "skipped": Counter(told["skipped"])})


def example(row: dict[str, Any], source: str) -> pa.Table:
    """A row as a table of one example, its pictures checked. Raises SkipError."""
    name = row["name"]
    before, size = checked(row["original_image"], f"{name}, the picture before")
    after, other = checked(row["edited_image"], f"{name}, the picture after")
    if abs(size[0] * other[1] / (size[1] * other[0]) - 1) > APART:
        raise SkipError(
            "unlike sizes", f"{name} is {size[0]}×{size[1]} before and {other[0]}×{other[1]} after, not of one shape"
        )
    region = mask(row["mask"], f"{name}, the mask", size) if row.get("mask") is not None else None
    told = {**row, "original_image": before, "edited_image": after, "mask": region, "source": source}
    for column in ("original_prompt", "edit_prompt", "edited_prompt"):
        told[column] = text(row.get(column) or "", f"{name}, {column}")
    if not told["edit_prompt"]:
        raise SkipError("no instruction", f"{name} has no instruction")
    told.setdefault("kind", "")
    columns = [
        picture_column(pa.array([told[each.name]], pa.binary()))
        if each.name in PICTURES
        else pa.array([told.get(each.name)], each.type)
        for each in EXAMPLES_SCHEMA
    ]
    return pa.table(columns, schema=EXAMPLES_SCHEMA)


def text(value: Any, name: str) -> str:
    """A text of others. Raises SkipError for what is none, or far too long."""
    if not isinstance(value, str):
        raise SkipError("damaged text", f"{name} is no text")
    if len(value) > LONGEST:
        raise SkipError("damaged text", f"{name} has {len(value):,} characters, more than {LONGEST:,}")
    return clean(value).strip()


def clean(value: str) -> str:
    """A text without the halves of letters that no file can hold."""
    return value.encode("utf-8", "replace").decode()
