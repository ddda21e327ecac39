"""Which pictures are meant."""

from pathlib import Path
from typing import NamedTuple

from PIL import Image

NO_PICTURES = {".eps", ".pdf", ".ps"}


class Source(NamedTuple):
    """A picture to edit, and the folder where its results go unless the user says otherwise."""

    path: Path
    results: Path


def find_sources(argument: Path) -> list[Source]:
    """The pictures that an argument names: itself, or a folder's, by name. Raises ValueError for a folder without."""
    if not argument.is_dir():
        return [Source(argument, argument.parent)]
    endings = Image.registered_extensions().keys() - NO_PICTURES
    names = sorted(
        path for path in argument.iterdir() if path.suffix.lower() in endings and not path.name.startswith(".")
    )
    if not names:
        raise ValueError(f"There is no picture in the folder {argument}.")
    folder = argument.resolve()  # a name for "." and ".."
    return [Source(path, folder.with_name(f"{folder.name}-edited")) for path in names]
