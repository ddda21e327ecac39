"""Any folder of pictures before and after, with a CSV file of what was asked.

Columns: before, after, instruction; and if there are any original_prompt, edited_prompt, mask, kind. Paths are relative
to the CSV file's folder.
"""

import csv
import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .candidates import PairTriplet, digest
from .import_files import Folder
from .pictures import SkipError

NEEDED = ("before", "after", "instruction")
PICTURES = ("before", "after", "mask")
FIELD = 1 << 20  # characters


class CsvLayout:
    """Each row is a pair."""

    source = "folder"

    def __init__(self, path: Path) -> None:
        self.path = the_csv(path)
        self.folder = Folder(self.path.parent)
        with self.path.open("rb") as file:
            self.hash = hashlib.sha256()
            while block := file.read(1 << 20):
                self.hash.update(block)
        columns = [] if self.path.stat().st_size == 0 else self.columns()
        lacking = [name for name in NEEDED if name not in columns]
        if lacking:
            told = ", ".join(columns) or "none"
            raise ValueError(f"{self.path} lacks the columns {', '.join(lacking)} (its columns are {told}).")

    def identity(self) -> dict[str, Any]:
        """Which rows."""
        return {"layout": "csv", "from": str(self.path), "rows": self.hash.hexdigest()[:16]}

    def count(self) -> int | None:
        """Not known before the file is read."""
        return None

    def columns(self) -> list[str]:
        """The names of the columns."""
        return next(self.lines(), [])

    def units(self, start: int) -> Iterator[tuple[int, dict[str, str]]]:
        """Rows with their numbers, counted from 1 below the header."""
        lines = self.lines()
        columns = next(lines)
        rows = ((number, dict(zip(columns, line, strict=False))) for number, line in enumerate(lines, 1) if line)
        return islice(rows, start, None)

    def lines(self) -> Iterator[list[str]]:
        """The file, line by line, the header's names without blanks."""
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            old = csv.field_size_limit(FIELD)
            reader = csv.reader(file, delimiter="\t" if self.path.suffix.lower() == ".tsv" else ",")
            try:
                yield [name.strip() for name in next(reader, [])]
                yield from reader
            except UnicodeDecodeError as error:
                raise ValueError(f"{self.path} is no UTF-8: save it as UTF-8.") from error
            except csv.Error as error:
                raise ValueError(f"{self.path} is damaged near line {reader.line_num} ({error}).") from error
            finally:
                csv.field_size_limit(old)

    def read(self, unit: tuple[int, dict[str, str]]) -> Iterator[dict[str, Any] | SkipError]:
        """The pair of a row."""
        number, row = unit
        told = {name: (value or "").strip() for name, value in row.items()}
        name = f"{self.path.name}, row {number}"
        try:
            for each in ("before", "after"):
                if not told.get(each):
                    raise SkipError("missing file", f"{name} names no picture {each}")
            files = [self.folder.read(told[each]) for each in ("before", "after")]
            region = self.folder.read(told["mask"]) if told.get("mask") else None
        except SkipError as error:
            yield error
            return
        captions = told.get("original_prompt", ""), told.get("edited_prompt", "")
        if all(captions):
            triplet_id = PairTriplet(captions[0], told.get("instruction", ""), captions[1]).id
        else:
            triplet_id = digest("\n".join((told["before"], told["after"], told.get("instruction", ""))))
        yield {
            "name": name,
            "original_prompt": captions[0],
            "edit_prompt": told.get("instruction", ""),
            "edited_prompt": captions[1],
            "original_image": files[0],
            "edited_image": files[1],
            "mask": region,
            "kind": told.get("kind", ""),
            "triplet_id": triplet_id,
        }


def the_csv(path: Path) -> Path:
    """The CSV file that is meant: itself, or the only one in a folder."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise ValueError(f"There is no file or folder {path}.")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in (".csv", ".tsv") and file.is_file())
    if len(files) != 1:
        told = ", ".join(file.name for file in files) or "none"
        raise ValueError(f"{path} has not one CSV file ({told}): name the file itself.")
    return files[0]
