"""The files of a run's folder: their names, what is in them, and the lock that keeps a second run out."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa

from .features import CANDIDATES, KEPT, PART, PICTURES
from .shards import read_shard, shards


def part_path(folder: Path, place: int) -> Path:
    """The part of a triplet."""
    return folder / "parts" / f"{place:08d}.parquet"


def data_path(folder: Path, block: int) -> Path:
    """The examples of a block."""
    return folder / "data" / f"train-{block:05d}.parquet"


def candidates_path(folder: Path, block: int) -> Path:
    """The candidates of a block."""
    return folder / "candidates" / f"{block:05d}.parquet"


def number(path: Path) -> int:
    """The place or block that a file's name tells."""
    digits = path.stem.removeprefix("train-")
    if not (digits.isascii() and digits.isdecimal()):
        raise ValueError(f"{path} is no file of a run: move it elsewhere.")
    return int(digits)


def merged_blocks(folder: Path) -> set[int]:
    """The blocks that are done."""
    return {number(path) for path in shards(folder / "candidates")}


def lone_parts(folder: Path) -> list[Path]:
    """The parts of blocks that are not merged."""
    parts = shards(folder / "parts")
    if not parts:
        return []
    size = (read_settings(folder) or {}).get("shard_triplets", 1)
    merged = merged_blocks(folder)
    return [path for path in parts if number(path) // size not in merged]


def read_settings(folder: Path) -> dict[str, Any] | None:
    """What a run's rows depend on, None where there is no run."""
    path = folder / "settings.json"
    if not path.exists():
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise ValueError(f"{path} is damaged: use another folder.")
    return told


def refuse_strange(folder: Path) -> None:
    """Refuse a folder with files that look like a run's where no settings tell of one."""
    for name in ("data", "parts", "candidates"):
        if (folder / name).exists():
            raise ValueError(f"{folder} holds {name} but no settings of a run: give another --output.")


def refuse_other(folder: Path, told: dict[str, Any], ours: dict[str, Any]) -> None:
    """Refuse the folder of a run with other settings, and say which differ."""
    different = sorted(name for name in ours.keys() | told.keys() if ours.get(name) != told.get(name))
    if "triplets" in different:
        different = ["triplets", *(name for name in different if name not in ("triplets", "num_triplets"))]
    if not different:
        return
    apart = ", ".join(
        "its triplets are others" if name == "triplets" else f"{name} is {told.get(name)!r}, not {ours.get(name)!r}"
        for name in different
    )
    raise ValueError(f"{folder} holds another run ({apart}): give the same settings or another --output.")


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Within it, no other run works in a folder; a killed one leaves it free. Raises OSError where one is at work."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise OSError(f"Another run is at work in {folder}: wait for it, or use another folder.") from None
    try:
        yield
    finally:
        lock.release()


def stored_parts(folder: Path) -> Iterator[tuple[int, pa.Table]]:
    """Every finished triplet of a run, by its place, as its part was; merged ones first. One at a time in memory."""
    if read_settings(folder) is None:
        raise ValueError(f"There is no run in {folder}.")
    for block in sorted(merged_blocks(folder)):
        yield from merged_parts(folder, block)
    for path in lone_parts(folder):
        yield number(path), pa.concat_tables([PART.empty_table(), *read_shard(path)]).cast(PART)


def merged_parts(folder: Path, block: int) -> Iterator[tuple[int, pa.Table]]:
    """The parts that a block's files were made of."""
    kept = kept_pictures(folder, block)
    candidates = pa.concat_tables(read_shard(candidates_path(folder, block))).cast(CANDIDATES)
    for place, rows in Counter(candidates["triplet"].to_pylist()).items():
        table, candidates = candidates[:rows], candidates[rows:]
        verdicts, numbers = table["verdict"].to_pylist(), table["number"].to_pylist()
        files = dict(next(kept) for verdict in verdicts if verdict == KEPT)
        for name in PICTURES:
            column = [files.get(number, {}).get(name) for number in numbers]
            table = table.append_column(name, pa.array(column, pa.binary()))
        yield place, table.cast(PART)


def kept_pictures(folder: Path, block: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The pictures of a block's examples with the candidates' numbers, in their order."""
    for table in read_shard(data_path(folder, block), ["candidate", *PICTURES], rows=8):
        for row in table.to_pylist():
            yield row["candidate"], {name: row[name] and row[name]["bytes"] for name in PICTURES}
