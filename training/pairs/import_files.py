"""Reading the files of a dataset of others: never outside its folder, and never without a limit."""

import json
import math
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from .pictures import MAX_BYTES, SkipError

MAX_TEXT = 4 << 20  # bytes of a row's own JSON file


class Folder:
    """A dataset's folder. Paths in its texts are others' words: those that lead out of it are refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path.resolve()

    def find(self, name: str) -> Path:
        """The file that a text names. Raises SkipError where it is missing or outside, by a link too."""
        posix, windows = PurePosixPath(name), PureWindowsPath(name)
        if posix.is_absolute() or windows.drive or windows.root or ".." in (*posix.parts, *windows.parts):
            raise SkipError("outside the folder", f"{name!r} is no path inside {self.path}")
        try:
            path = (self.root / name).resolve()
            inside, there = path.is_relative_to(self.root), path.is_file()
        except (OSError, ValueError, RuntimeError):  # a name too long, or with a NUL; links in a circle
            raise SkipError("missing file", f"{name!r} is no path that can be read") from None
        if not inside:
            raise SkipError("outside the folder", f"{name!r} leads out of {self.path}")
        if not there:
            raise SkipError("missing file", f"{self.path / name} is missing")
        return path

    def read(self, name: str, limit: int = MAX_BYTES) -> bytes:
        """A file's bytes. Raises SkipError, also where there are too many."""
        path = self.find(name)
        size = path.stat().st_size
        if size > limit:
            raise SkipError("too large", f"{self.path / name} is {size:,} bytes, more than {limit:,}")
        try:
            return path.read_bytes()
        except PermissionError:
            raise SkipError("missing file", f"{self.path / name} may not be read") from None

    def read_json(self, name: str) -> dict[str, Any]:
        """A small file of one JSON object. Raises SkipError."""
        try:
            told = json.loads(self.read(name, MAX_TEXT))
        except (ValueError, RecursionError) as error:
            if isinstance(error, SkipError):
                raise
            told = None
        if not isinstance(told, dict):
            raise SkipError("damaged text", f"{self.path / name} is no JSON object")
        return told


def load_list(path: Path, what: type) -> Any:
    """A dataset's own listing, JSON of a list or an object. Raises ValueError where it is none."""
    try:
        told = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, what):
        raise ValueError(f"{path} is damaged: it is no JSON {'list' if what is list else 'object'}.")
    return told


def number(value: Any) -> float | None:
    """A finite number, None for anything else."""
    try:
        told = None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return told if told is not None and math.isfinite(told) else None


def whole(value: Any) -> int | None:
    """A whole number that 64 bits hold, None for anything else."""
    try:
        told = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return told if -(1 << 63) <= told < 1 << 63 else None
