"""Where results go: names that are free, files that are whole, and the settings inside them."""

import json
import os
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
RECORD = "ip2p"  # the PNG's text chunk
DESCRIPTION = 0x010E  # EXIF's ImageDescription, for the formats without text chunks


class Outputs:
    """Names and writes the results of one run; no two of them get one name.

    output:    a .png, .jpg, .jpeg or .webp file, a folder, or None for a folder of each result's own
    count:     how many results there will be
    overwrite: take names that exist. Otherwise a file named by `output` is an error and other names get a number

    Raises ValueError or OSError where `output` can't hold the results.
    """

    def __init__(self, output: Path | None, count: int, overwrite: bool) -> None:
        self.overwrite = overwrite
        self._written: set[Path] = set()
        self._file: Path | None = None
        self._folder: Path | None = None
        if output is None:
            return
        if output.is_dir() or output.suffix.lower() not in Image.registered_extensions():
            self._folder = output
            check_folder(output)
            return
        if output.suffix.lower() not in FORMATS:
            raise ValueError(f"{output} can't be written: results are {', '.join(FORMATS)}.")
        if count > 1:
            raise ValueError(f"{output} is one file, and there are {count} results: give a folder.")
        if output.exists() and not overwrite:
            raise FileExistsError(f"{output} exists: give another name, or --overwrite to replace it.")
        self._file = output
        check_folder(output.parent)

    @property
    def keeps_alpha(self) -> bool:
        """Whether transparency survives in the format of the results."""
        return self._file is None or FORMATS[self._file.suffix.lower()] != "JPEG"

    def save(self, image: Image.Image, record: dict[str, Any], name: str, folder: Path = Path()) -> Path:
        """Write a result, whole or not at all, with the settings that made it; gives its path.

        name, folder: the file's name without the ending, and the folder of its own, where `output` doesn't say
        """
        path = self._file or self._free((self._folder or folder) / f"{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(image, record, path)
        self._written.add(path)
        return path

    def _free(self, path: Path) -> Path:
        """`path`, or with the first number behind its name that is not taken."""
        candidate, number = path, 2
        while candidate in self._written or (candidate.exists() and not self.overwrite):
            candidate, number = path.with_stem(f"{path.stem}-{number}"), number + 1
        return candidate


def check_folder(folder: Path) -> None:
    """Raise OSError unless files can be written in `folder`, which need not exist yet."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{folder} can't hold the results: {there} is not a folder.")
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{folder} can't hold the results: {there} is not writable.")


def write_whole(image: Image.Image, record: dict[str, Any], path: Path) -> None:
    """Write aside, then rename, so that a file is whole or not there. The record is JSON in it."""
    kind = FORMATS[path.suffix.lower()]
    options: dict[str, Any] = {}
    if kind == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text(RECORD, json.dumps(record, ensure_ascii=False))
    else:
        options["exif"] = Image.Exif()
        options["exif"][DESCRIPTION] = json.dumps(record)
        options["quality"] = 95
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        image.save(aside, kind, **options)
        aside.replace(path)
    except OSError as error:
        raise OSError(f"{path} can't be written: {error.strerror or error}.") from error
    finally:
        aside.unlink(missing_ok=True)
