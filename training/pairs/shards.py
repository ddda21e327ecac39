"""Parquet files that are there whole or not at all, written and read a few rows at a time."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 100  # of a row group, what datasets' viewers read at a time
BYTES = 64 << 20  # likewise, for large pictures
FULL = (errno.ENOSPC, errno.EDQUOT)


class ShardWriter:
    """Takes tables of one schema, and writes them by groups of rows."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self.writer = writer
        self.waiting: list[pa.Table] = []
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Append rows."""
        if not table.num_rows:
            return
        self.waiting.append(table)
        self.rows += table.num_rows
        if sum(each.num_rows for each in self.waiting) >= ROWS or sum(each.nbytes for each in self.waiting) >= BYTES:
            self.flush()

    def note(self, key: str, value: str) -> None:
        """Put a text among the file's own metadata."""
        self.writer.add_key_value_metadata({key: value})

    def flush(self) -> None:
        """Write the rows that wait."""
        if self.waiting:
            self.writer.write_table(pa.concat_tables(self.waiting).combine_chunks())
            self.waiting = []


@contextmanager
def new_shard(path: Path, schema: pa.Schema) -> Iterator[ShardWriter]:
    """Write a Parquet file aside; it gets its name when it is on disk, and nothing is left of it otherwise."""
    aside = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            with pq.ParquetWriter(file, schema) as parquet:
                shard = ShardWriter(parquet)
                yield shard
                shard.flush()
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        settle(path.parent)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL:
            raise OSError(
                f"There is no room for {path}: free some, then run the same command again. What is done is kept."
            ) from error
        raise


def settle(folder: Path) -> None:
    """Wait until the names of a folder's files are on disk, where the system can."""
    if os.name == "posix":
        entry = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)


def read_shard(path: Path, columns: Sequence[str] | None = None, rows: int = ROWS) -> Iterator[pa.Table]:
    """A Parquet file's rows, a few at a time. Columns that it lacks are left out."""
    with opened(path) as file:
        names = file.schema_arrow.names
        wanted = None if columns is None else [name for name in columns if name in names]
        for batch in file.iter_batches(batch_size=rows, columns=wanted):
            yield pa.Table.from_batches([batch])


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file. Raises ValueError where it is none, or damaged."""
    try:
        # Not memory-mapped and not read ahead: a shard may be larger than the memory.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's, such as a missing file; what Arrow calls one tells no number
        raise ValueError(f"{path} is damaged or no Parquet file: remove it, and run the same command again.") from error


def shards(folder: Path) -> list[Path]:
    """The Parquet files of a folder, in order."""
    return sorted(folder.glob("*.parquet"))
