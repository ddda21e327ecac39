"""Reads triplets: what `dataset instructions` writes, or a file of one's own.

Columns or keys are original_prompt, edit_prompt, edited_prompt and, if there are any, kind and inverse_prompt, the
instruction that leads back; or those that the original's authors use: caption or input, edit, output. A triplet that
lacks one of the three texts is kept, with the text empty: it has its place in the run, and fails there with a sentence.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.parquet as pq

from .candidates import PairTriplet

NAMES = {
    "original_prompt": ("original_prompt", "caption", "input"),
    "edit_prompt": ("edit_prompt", "edit"),
    "edited_prompt": ("edited_prompt", "output"),
    "kind": ("kind",),
    "inverse_prompt": ("inverse_prompt",),
}
SCHEMA = pa.schema([(name, pa.string()) for name in NAMES])
LINES = 10_000  # turned into a table at a time


class Triplets(Sequence[PairTriplet]):
    """Triplets in a table, which takes little more memory than their texts."""

    def __init__(self, table: pa.Table) -> None:
        self.columns = [table[name].combine_chunks() for name in SCHEMA.names]

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, place: int) -> PairTriplet: ...

    @overload
    def __getitem__(self, place: slice) -> list[PairTriplet]: ...

    def __getitem__(self, place: int | slice) -> PairTriplet | list[PairTriplet]:
        """The triplet at a place, or those of a slice."""
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return PairTriplet(*(column[place % len(self)].as_py() or "" for column in self.columns))


def read_triplets(path: Path, limit: int | None = None) -> Triplets:
    """The triplets of a folder of `dataset instructions`, a .parquet or a .jsonl file; of these the first `limit`."""
    file = path / "triplets.parquet" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"There are no triplets at {path}: give a folder of `ip2p dataset instructions`.")
    if file.suffix == ".parquet":
        table = from_parquet(file)
    elif file.suffix in (".jsonl", ".json"):
        table = from_lines(file)
    else:
        raise ValueError(f"{file} is neither a .parquet nor a .jsonl file of triplets.")
    if not table.num_rows:
        raise ValueError(f"{file} holds no triplets.")
    return Triplets(table[:limit])


def from_parquet(path: Path) -> pa.Table:
    """The texts of a Parquet file."""
    try:
        with pq.ParquetFile(path) as file:
            there = file.schema_arrow.names
            known = {name: next((each for each in names if each in there), None) for name, names in NAMES.items()}
            lacking = [name for name in ("original_prompt", "edit_prompt", "edited_prompt") if known[name] is None]
            if lacking:
                raise ValueError(f"{path} is no file of triplets: it has no column {lacking[0]}.")
            table = file.read(columns=[name for name in known.values() if name is not None])
            columns = [
                pa.nulls(table.num_rows, pa.string()) if name is None else table[name].cast(pa.string())
                for name in known.values()
            ]
    except pa.ArrowException as error:
        raise ValueError(f"{path} is no Parquet file of triplets, or damaged.") from error
    return pa.table(columns, schema=SCHEMA)


def from_lines(path: Path) -> pa.Table:
    """The texts of a JSONL file, a triplet a line. A line that is no JSON is a triplet without texts."""
    tables: list[pa.Table] = [SCHEMA.empty_table()]
    rows: list[dict[str, str]] = []
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                rows.append(from_line(line))
            if len(rows) == LINES:
                tables.append(pa.Table.from_pylist(rows, schema=SCHEMA))
                rows = []
    tables.append(pa.Table.from_pylist(rows, schema=SCHEMA))
    table = pa.concat_tables(tables)
    if table.num_rows and not any(any(table[name].to_pylist()) for name in SCHEMA.names):
        raise ValueError(f"{path} is no file of triplets: no line is JSON with {', '.join(NAMES)}.")
    return table


def from_line(line: bytes) -> dict[str, str]:
    """A line's texts."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        told = None
    told = told if isinstance(told, dict) else {}
    return {name: text(told.get(key) for key in keys) for name, keys in NAMES.items()}


def text(values: Iterable[Any]) -> str:
    """The first of the values that is a text, as far as it is one in UTF-8."""
    found = next((value for value in values if isinstance(value, str)), "")
    return found.encode(errors="ignore").decode()
