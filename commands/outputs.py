"""Where results go: names that are free, files that are whole, and the settings inside them."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .report import complain

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383}
RECORD = "ip2p"  # the PNG's text chunk
DESCRIPTION = 0x010E  # EXIF's ImageDescription, for the formats without text chunks


class Outputs:
    """Names and writes the results of one run; no two of them get one name.

    output:    a .png, .jpg, .jpeg or .webp file, a folder, or None for a folder of each result's own
    count:     how many results there will be
    overwrite: take names that exist. Otherwise a file named by `output` is an error and other names get a number
    inputs:    the pictures that the run reads, whose names no result takes

    Raises ValueError or OSError where `output` can't hold the results.
    """

    def __init__(self, output: str | None, count: int, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
        self.overwrite = overwrite
        self._kept = {identity(path) for path in inputs if path.exists()}
        self._file: Path | None = None
        self._folder: Path | None = None
        if output is None:
            return
        path = Path(output)
        if path.is_dir() or not path.suffix or output.endswith(("/", os.sep)):
            self._folder = path
            check_folder(path)
            return
        if path.suffix.lower() not in FORMATS:
            raise ValueError(
                f"{path} can't be written: results are {', '.join(FORMATS)}, and a folder's name ends with a slash."
            )
        if count > 1:
            raise ValueError(f"{path} is one file, and there are {count} results: give a folder.")
        if self._is_taken(path):
            other = "this run reads it, give another name" if overwrite else "give another name, or --overwrite"
            raise FileExistsError(f"{path} exists: {other}.")
        self._file = path
        check_folder(path.parent)

    @property
    def keeps_alpha(self) -> bool:
        """Whether transparency survives in the format of the results."""
        return self._format != "JPEG"

    @property
    def _format(self) -> str:
        return "PNG" if self._file is None else FORMATS[self._file.suffix.lower()]

    def check_name(self, name: str, folder: Path) -> None:
        """Raise OSError where a result can't be written under that name, as `save` takes it, or with a number."""
        path = self._file or (self._folder or folder) / f"{name}-9999.png"
        check_folder(path.parent)
        try:
            path.lstat()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise OSError(f"{path} can't be written: {error.strerror}.") from error

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise ValueError where the format of the results can't hold a picture of that size (width, height)."""
        longest = LONGEST_SIDE.get(self._format)
        if longest is not None and max(size) > longest:
            raise ValueError(
                f"{self._file} can't be written: the result has {size[0]}×{size[1]} pixels, and {self._format} holds "
                f"{longest} on a side. Give a .png."
            )

    def save(self, image: Image.Image, record: dict[str, Any], name: str, folder: Path = Path()) -> Path:
        """Write a result, whole or not at all, with the settings that made it; gives its path.

        name, folder: the file's name without the ending, and the folder of its own, where `output` doesn't say
        """
        wanted = self._file or (self._folder or folder) / f"{name}.png"
        wanted.parent.mkdir(parents=True, exist_ok=True)
        aside = wanted.with_name(f".ip2p-{os.getpid()}.partial")
        try:
            write(image, record, aside, self._format)
            path = self._free(wanted)  # only now: a file may have appeared during the edit
            aside.replace(path)
        except OSError as error:
            raise OSError(f"{wanted} can't be written: {error.strerror or error}.") from error
        finally:
            aside.unlink(missing_ok=True)
        if self._file not in (None, path):
            complain(f"{self._file} has appeared during the edit: the result is {path}.")
        self._kept.add(identity(path))
        return path

    def _free(self, path: Path) -> Path:
        """`path`, or with the first number behind its name that is not taken."""
        candidate, number = path, 2
        while self._is_taken(candidate):
            candidate, number = path.with_stem(f"{path.stem}-{number}"), number + 1
        return candidate

    def _is_taken(self, path: Path) -> bool:
        return path.exists() and (not self.overwrite or path.is_dir() or identity(path) in self._kept)


def identity(path: Path) -> tuple[int, int]:
    """What is the same for two names of one file: links, and other capitals where the file system ignores them."""
    status = path.stat()
    return status.st_dev, status.st_ino


def check_folder(folder: Path) -> None:
    """Raise OSError unless files can be written in `folder`, which need not exist yet."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{folder} can't hold the results: {there} is not a folder.")
    if not os.access(there, os.W_OK):
        raise PermissionError(f"{folder} can't hold the results: {there} is not writable.")


def write(image: Image.Image, record: dict[str, Any], path: Path, kind: str) -> None:
    """Write a picture in a format of Pillow's, with the record as JSON in it."""
    options: dict[str, Any] = {}
    if kind == "PNG":
        text = json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace").decode()  # names of files
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text(RECORD, text)
    else:
        options["exif"] = Image.Exif()
        options["exif"][DESCRIPTION] = json.dumps({name: shortened(value) for name, value in record.items()})
        options["quality"] = 95
    image.save(path, kind, **options)


def shortened(value: Any) -> Any:
    """A long text cut off, for EXIF, which holds 64 kB in all."""
    return f"{value[:1000]}…" if isinstance(value, str) and len(value) > 1000 else value
