"""What running the command gives."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Result(NamedTuple):
    """Exit status, stdout and stderr."""

    code: int
    out: str
    err: str


Ip2p = Callable[..., Result]


def files(folder: Path) -> set[str]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
