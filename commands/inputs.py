"""Which pictures are meant."""

import re
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from .report import complain

# What cameras, phones and editors write. Pillow reads some, depending on its version and plugins.
PHOTO = re.compile(
    r"\.(arw|avif|bmp|cr2|cr3|dng|gif|heic|heif|hif|jfif|jp2|jpeg|jpg|jxl|nef|orf|png|ppm|psd|raf|rw2|tga|tif|tiff|webp)",
    re.IGNORECASE,
)


class Source(NamedTuple):
    """A picture to edit, and the folder where its results go unless the user says otherwise."""

    path: Path
    results: Path


def find_sources(argument: Path) -> list[Source]:
    """The pictures that an argument names: itself, or a folder's, by name. Raises ValueError for a folder without.

    A folder's pictures that Pillow can't read are told.
    """
    if not argument.is_dir():
        return [Source(argument, argument.parent)]
    photos = sorted(
        path
        for path in argument.iterdir()
        if PHOTO.fullmatch(path.suffix) and not path.name.startswith(".") and path.is_file()
    )
    readable = Image.registered_extensions()
    skipped = [path.name for path in photos if path.suffix.lower() not in readable]
    if skipped:
        complain(f"In {argument}, {', '.join(skipped)} can't be read and will not be edited: convert to PNG or JPEG.")
    if len(skipped) == len(photos):
        raise ValueError(f"There is no picture in the folder {argument} that can be read.")
    folder = argument.resolve()  # a name for "." and ".."
    results = folder.with_name(f"{folder.name}-edited")
    return [Source(path, results) for path in photos if path.suffix.lower() in readable]
