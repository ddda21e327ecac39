"""The rows of a dataset: of Parquet files here, or of the Hub, of which no more is read than is edited."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets

from ..files import of_split
from ..instructions.caption_sources import readable
from .methods import contents_of

BUFFER = 5000
"""Rows of a dataset on the Hub among which the next one is drawn."""
DRAWN = "drawn_row"
"""Column that names rows that were drawn: by their place alone they would be taken for those of the whole dataset."""
TURNS = "edit_turns.json"
"""Lists what is edited in MagicBrush's own folder."""
TOLD = ("global_descriptions.json", "local_descriptions.json")
"""Its captions: of whole pictures, and of what each output shows where it changed."""


def open_rows(
    data: str, path: Path, split: str, count: int | None, seed: int, sessions: Sequence[str]
) -> datasets.Dataset:
    """The rows of Parquet files here, or of a dataset on the Hub, their pictures as files.

    count, seed: of a dataset on the Hub only so many rows, drawn by the seed as they come
    sessions:    columns that tell of sessions: a dataset that has one is read whole, for its turns belong together

    Raises ValueError or OSError, in a sentence, where there are none such.
    """
    if not path.exists():
        check_id(data)
    files = [str(file) for file in files_of(data, path, split)] if path.exists() else []
    with readable(data):
        try:
            if files:
                return with_files(datasets.load_dataset("parquet", data_files=files, split="train"))
            return rows_of_hub(data, split, count, seed, sessions)
        except datasets.exceptions.DatasetGenerationError as error:
            raise ValueError(str(error.__cause__ or error)) from error


def rows_of_hub(data: str, split: str, count: int | None, seed: int, sessions: Sequence[str]) -> datasets.Dataset:
    """The rows of a dataset on the Hub, as `open_rows` gives them."""
    stream = datasets.load_dataset(data, split=split, streaming=True)
    names = stream.column_names or list(next(iter(stream)))
    if count is None or set(sessions) & set(names):
        return with_files(datasets.load_dataset(data, split=split))
    some = with_files(stream).shuffle(seed=seed, buffer_size=BUFFER).take(count)
    # On disk, where a run that goes on finds them, and all processes share them.
    rows = datasets.Dataset.from_generator(some.__iter__, features=some.features)
    return rows.add_column(DRAWN, [f"row {row} drawn by seed {seed}" for row in range(len(rows))])


def files_of(data: str, path: Path, split: str) -> list[Path]:
    """The Parquet files of a split, as `of_split` tells it, of a path that is there. Raises ValueError where it has
    none."""
    # A folder of `ip2p dataset pairs` has files of another kind beside those of its pairs.
    files = [path] if path.is_file() else sorted(path.glob("data/*.parquet")) or sorted(path.rglob("*.parquet"))
    if not files:
        raise ValueError(f"{data} has no Parquet files, and no {TURNS} as MagicBrush's folder has.")
    return of_split(files, split, data)


def content_here(data: str, split: str) -> dict[str, str]:
    """Hashes of the files here that say what is edited: none of the shapes world, or of a dataset on the Hub."""
    path = Path(data).expanduser()
    if data == "shapes" or not path.exists():
        return {}
    if (path / TURNS).is_file():
        files = [path / name for name in (TURNS, *TOLD)] + sorted((path / "images").rglob("*"))
        files = [file for file in files if file.is_file()]
    else:
        files = files_of(data, path, split)
    return contents_of(files, path if path.is_dir() else path.parent)


def rows_on_hub(data: str, split: str, count: int | None) -> int | None:
    """How many rows of a dataset on the Hub are edited, at most `count`, as its description tells, without a picture.

    None where it does not, and of what is no dataset on the Hub.
    """
    if data == "shapes" or Path(data).expanduser().exists():
        return None
    check_id(data)
    with readable(data):
        splits = datasets.load_dataset_builder(data).info.splits or {}
    told = splits[split].num_examples if split in splits else None
    known = [number for number in (told, count) if number]
    return min(known) if known else None


def check_id(data: str) -> None:
    """Raise FileNotFoundError for what can't be the id of a dataset on the Hub."""
    if data.startswith((".", "/", "~")) or data.count("/") != 1:
        raise FileNotFoundError(f"There is no file or folder {data}.")


def with_files(rows: Any) -> Any:
    """Rows, or a stream of them, with their pictures as files."""
    for name, feature in (rows.features or {}).items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    return rows
