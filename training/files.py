"""Small files that are there whole or not at all, whether files changed, and which are a split's."""

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

FULL = (errno.ENOSPC, errno.EDQUOT)
OF_SPLIT = re.compile(r"([A-Za-z]\w*)-\d+(-of-\d+)?(-\w+)?\.parquet")
"""How a split's files are called: train-00000.parquet, or train-00000-of-00002-0123456789abcdef.parquet."""


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Within it a full disk is an OSError in a sentence, whatever library finds it full."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) not in FULL and "No space left" not in str(error):
            raise
        raise OSError(
            f"There is no room for {path}: free some, then run the same command again. What is done is kept."
        ) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file aside, and give it its name when it is on disk. Raises OSError, in a sentence, where it is full."""
    with room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(path.name + ".partial")
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)


def add_line(path: Path, line: str) -> None:
    """Write a line at a file's end, in place of one that a full disk or a kill left unfinished.

    Raises OSError, in a sentence, where the disk is full.
    """
    with room_for(path), path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write(line.encode() + b"\n")


def stamp(path: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of change of a file, or of those in a folder; empty where there is neither."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = [(file.name, file.stat()) for file in files if file.is_file()]
    return [(name, state.st_size, state.st_mtime_ns) for name, state in states]


def of_split(files: Sequence[Path], split: str, data: str) -> list[Path]:
    """The files of a split, or all where their names tell of one split at most.

    Raises ValueError where they tell of several, and not of this one.
    """
    told = {file: OF_SPLIT.fullmatch(file.name) for file in files}
    splits = {match[1] for match in told.values() if match}
    if len(splits) > 1 and split not in splits:
        raise ValueError(f"{data} has no files of --split {split}, only of {' and '.join(sorted(splits))}.")
    return [file for file, match in told.items() if match and match[1] == split] or list(files)
