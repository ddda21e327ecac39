"""MagicBrush (Zhang et al., 2023): from the Hub, from its Parquet files, or from its folder of pictures.

edit_turns.json            [{"input", "mask", "output", "instruction"}, …]
global_descriptions.json   {id: {file: caption}}
images/ID/                 ID-input.png, ID-mask1.png, ID-output1.png, …
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .candidates import PairTriplet, digest
from .import_files import Folder, load_list
from .importers import Layout, clean, text
from .pictures import SkipError
from .shards import opened, read_shard

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
COLUMNS = ("img_id", "turn_index", "source_img", "mask_img", "instruction", "target_img")
NEEDED = ("source_img", "instruction", "target_img")
ROWS = 4  # read at a time, of three pictures each


def magicbrush(source: str, split: str) -> Layout:
    """The layout that a source has: a folder's own, or a dataset's id on the Hub."""
    path = Path(source).expanduser()
    if path.exists():
        return TurnsLayout(path) if (path / "edit_turns.json").is_file() else ParquetLayout(path, split)
    if not HUB_ID.fullmatch(source):
        raise ValueError(f"There is no file or folder {source}.")
    return HubLayout(source, split)


def pair(row: dict[str, Any], name: str) -> dict[str, Any] | SkipError:
    """A row with the columns of the Hub's dataset as ours."""
    files = {}
    for ours, theirs in (("original_image", "source_img"), ("edited_image", "target_img"), ("mask", "mask_img")):
        picture = row.get(theirs)
        content = picture.get("bytes") if isinstance(picture, dict) else None
        if content is None and ours != "mask":
            return SkipError("missing file", f"{name} has no {theirs}")
        files[ours] = content
    instruction = row.get("instruction")
    image, turn = row.get("img_id"), row.get("turn_index")
    named = digest(f"{name}/{instruction}") if image is None else f"{image}-{turn}"
    return {"name": name, "edit_prompt": instruction, "triplet_id": str(named), **files}


class HubLayout:
    """The dataset on the Hub, as a stream."""

    source = "magicbrush"

    def __init__(self, dataset: str, split: str) -> None:
        self.dataset, self.split = dataset, split
        self.revision: str | None = None
        from datasets.exceptions import DatasetNotFoundError
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError

        from ..instructions.caption_sources import readable

        with readable(dataset):
            try:
                self.revision = HfApi().dataset_info(dataset).sha
            except RepositoryNotFoundError:
                raise DatasetNotFoundError from None

    def identity(self) -> dict[str, Any]:
        """Which rows."""
        return {"layout": "magicbrush", "from": self.dataset, "split": self.split, "rows": self.revision}

    def count(self) -> int | None:
        """Not known beforehand."""
        return None

    def units(self, start: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Rows, with their numbers."""
        from datasets import Image, load_dataset

        from ..instructions.caption_sources import readable

        with readable(self.dataset):
            stream = load_dataset(self.dataset, split=self.split, revision=self.revision, streaming=True)
            check_columns(self.dataset, list(stream.features or COLUMNS))
            for column in ("source_img", "mask_img", "target_img"):
                if column in (stream.features or COLUMNS):
                    stream = stream.cast_column(column, Image(decode=False))
            yield from enumerate(stream.skip(start), start)

    def read(self, unit: tuple[int, dict[str, Any]]) -> Iterator[dict[str, Any] | SkipError]:
        """The pair of a row."""
        number, row = unit
        yield pair(row, f"{self.dataset}, row {number}")


class ParquetLayout:
    """The same dataset's files."""

    source = "magicbrush"

    def __init__(self, path: Path, split: str) -> None:
        self.path, self.split = path, split
        files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
        named = [file for file in files if file.name.startswith(f"{split}-")]
        self.files = named or files
        if not named and any(file.name.startswith(("train-", "dev-", "test-")) for file in files if path.is_dir()):
            raise ValueError(f"{path} has no files of the split {split}: give another --split.")
        if not self.files:
            raise ValueError(f"{path} has no Parquet files and no edit_turns.json, as MagicBrush has one of them.")
        self.rows = []
        for file in self.files:
            with opened(file) as parquet:
                check_columns(str(file), parquet.schema_arrow.names)
                self.rows.append(parquet.metadata.num_rows)

    def identity(self) -> dict[str, Any]:
        """Which rows."""
        listing = "\n".join(
            f"{file.name} {rows} {file.stat().st_size}" for file, rows in zip(self.files, self.rows, strict=True)
        )
        return {"layout": "magicbrush", "from": str(self.path), "split": self.split, "rows": digest(listing)}

    def count(self) -> int:
        """Rows."""
        return sum(self.rows)

    def units(self, start: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Rows, with what messages call them. Files before the first one wanted are not read."""
        for file, rows in zip(self.files, self.rows, strict=True):
            if start >= rows:
                start -= rows
                continue
            numbered = ((f"{file.name}, row {n}", row) for n, row in enumerate(self.rows_of(file, start), start))
            yield from numbered
            start = 0

    def rows_of(self, file: Path, start: int) -> Iterator[dict[str, Any]]:
        """A file's rows, without the first ones."""
        for table in read_shard(file, COLUMNS, rows=ROWS):
            skipped = min(start, table.num_rows)
            start -= skipped
            yield from table.slice(skipped).to_pylist()

    def read(self, unit: tuple[str, dict[str, Any]]) -> Iterator[dict[str, Any] | SkipError]:
        """The pair of a row."""
        name, row = unit
        yield pair(row, name)


class TurnsLayout:
    """The published folder: a listing of turns, and pictures."""

    source = "magicbrush"

    def __init__(self, path: Path) -> None:
        self.folder = Folder(path)
        self.turns = load_list(path / "edit_turns.json", list)
        captions = path / "global_descriptions.json"
        self.captions = load_list(captions, dict) if captions.is_file() else {}

    def identity(self) -> dict[str, Any]:
        """Which rows."""
        told = digest(repr(self.turns) + repr(self.captions))
        return {"layout": "magicbrush", "from": str(self.folder.path), "rows": told}

    def count(self) -> int:
        """Turns."""
        return len(self.turns)

    def units(self, start: int) -> Iterator[tuple[int, Any]]:
        """Turns, with their numbers."""
        return islice(enumerate(self.turns), start, None)

    def read(self, unit: tuple[int, Any]) -> Iterator[dict[str, Any] | SkipError]:
        """The pair of a turn."""
        number, turn = unit
        name = f"edit_turns.json, turn {number}"
        names = [turn.get(key) if isinstance(turn, dict) else None for key in ("input", "output", "mask")]
        if not isinstance(names[0], str) or not isinstance(names[1], str):
            yield SkipError("damaged text", f"{name} names no pictures")
            return
        image = names[0].partition("-")[0]
        try:
            before, after = (self.folder.read(f"images/{image}/{each}") for each in names[:2])
            region = self.folder.read(f"images/{image}/{names[2]}") if isinstance(names[2], str) else None
            captions = self.captions.get(image)
            told = captions if isinstance(captions, dict) else {}
            texts = (told.get(names[0]) or "", turn.get("instruction"), told.get(names[1]) or "")
            triplet = PairTriplet(*(text(each, f"{name}, a text") for each in texts))
            known = triplet.original_prompt and triplet.edited_prompt
        except SkipError as error:
            yield error
            return
        yield {
            "name": name,
            "original_prompt": triplet.original_prompt,
            "edit_prompt": triplet.edit_prompt,
            "edited_prompt": triplet.edited_prompt,
            "original_image": before,
            "edited_image": after,
            "mask": region,
            "triplet_id": triplet.id if known else digest(clean(f"{names[0]}/{names[1]}")),
        }


def check_columns(name: str, columns: list[str]) -> None:
    """Refuse what is not MagicBrush."""
    lacking = [column for column in NEEDED if column not in columns]
    if lacking:
        raise ValueError(f"{name} is not in MagicBrush's format: it lacks the columns {', '.join(lacking)}.")
