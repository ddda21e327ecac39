"""Small files that are there whole or not at all, and whether files changed."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file aside, and give it its name when it is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".partial")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def stamp(path: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of change of a file, or of those in a folder; empty where there is neither."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = [(file.name, file.stat()) for file in files if file.is_file()]
    return [(name, state.st_size, state.st_mtime_ns) for name, state in states]
