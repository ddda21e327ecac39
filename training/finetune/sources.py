"""Where examples come from: Parquet, the Hub, or a layout of others, which is imported first."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
from datasets import Image

from ..files import of_split
from ..instructions.caption_sources import readable
from ..pairs.import_csv import CsvLayout
from ..pairs.import_magicbrush import magicbrush
from ..pairs.import_original import OriginalLayout
from ..pairs.importers import Layout, import_pairs
from .examples import CAPTIONS, triplet_names
from .settings import DataSettings, flag

MAGICBRUSH = "osunlp/MagicBrush"
RENAMED = ("original_image", "edit_prompt", "edited_image")
PICTURES = ("original_image", "edited_image")
INVERSE = "inverse_prompt"
KEPT = (*RENAMED, "original_prompt", "edited_prompt", "triplet_id")
TURNED = {
    "original_image": "edited_image",
    "edited_image": "original_image",
    "original_prompt": "edited_prompt",
    "edited_prompt": "original_prompt",
    INVERSE: "edit_prompt",
}
"""What each column of a pair is the other way round."""


def open_rows(settings: DataSettings, folder: Path, imports: bool = True) -> Any:
    """A `datasets.Dataset`, or with --streaming an IterableDataset, of the columns in `KEPT` as far as they are there.

    Pictures stay files. Rows with an instruction that leads back are in a Dataset a second time, turned round; in a
    stream they have it in a column of its own. A layout of others is imported to `folder` first, or with `imports`
    false has been. Raises ValueError or OSError, in a sentence.
    """
    if settings.data is None:
        raise ValueError("Say what to train on: --data FOLDER or a dataset's id on the Hub.")
    path = Path(settings.data).expanduser()
    if not path.exists() and settings.data != MAGICBRUSH:
        return columns_of(from_hub(settings), settings)
    if settings.streaming:
        where = "on this disk" if path.exists() else "read from its own archive"
        raise ValueError(f"--streaming is for datasets of the Hub, and {settings.data} is {where}: leave it out.")
    layout = layout_of(path, settings)
    if layout is not None:
        if imports:
            import_pairs(layout, folder)
        path = folder
    files = of_split([path] if path.is_file() else sorted(path.rglob("*.parquet")), settings.split, settings.data)
    try:
        rows = datasets.load_dataset("parquet", data_files=[str(file) for file in files], split="train")
    except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or ["it is damaged"])[0]
        raise ValueError(f"{settings.data} can't be read: {reason}") from error
    return columns_of(rows, settings)


def layout_of(path: Path, settings: DataSettings) -> Layout | None:
    """How a path is laid out, None for Parquet files. Raises ValueError where nothing there is known."""
    if settings.data == MAGICBRUSH or (path / "edit_turns.json").is_file():
        return magicbrush(str(settings.data), settings.split)
    if path.suffix == ".parquet" or (path.is_dir() and next(path.rglob("*.parquet"), None)):
        return None
    if path.suffix.lower() in (".csv", ".tsv") or any(each.suffix.lower() in (".csv", ".tsv") for each in inside(path)):
        return CsvLayout(path)
    if path.is_dir():
        return OriginalLayout(path)
    raise ValueError(f"{path} is no data that can be trained on: give Parquet files, a CSV file or a folder.")


def inside(path: Path) -> Iterable[Path]:
    """The files of a folder, none of a file."""
    return path.iterdir() if path.is_dir() else ()


def from_hub(settings: DataSettings) -> Any:
    """A dataset of the Hub, whole or as a stream."""
    data = str(settings.data)
    if data.startswith((".", "/", "~")) or data.count("/") > 1:
        raise FileNotFoundError(f"There is no file or folder {data}.")
    with readable(data):
        return datasets.load_dataset(data, split=settings.split, streaming=settings.streaming)


def columns_of(rows: Any, settings: DataSettings) -> Any:
    """The rows with our names of columns, and without what no training needs."""
    if rows.column_names is None:  # of a stream that tells nothing of them
        rows = rows._resolve_features()
    back = settings.inverse_prompt_column
    wanted = [*RENAMED]
    if back is not None and (back != INVERSE or back in rows.column_names):
        wanted.append(INVERSE)
    for name in wanted:
        theirs = getattr(settings, f"{name}_column")
        if theirs not in rows.column_names:
            told = ", ".join(rows.column_names)
            raise ValueError(
                f"{settings.data} has no column {theirs} (its columns are {told}): name the one that is meant with "
                f"{flag(name + '_column')}."
            )
        if theirs != name:
            rows = rows.remove_columns([name] if name in rows.column_names else []).rename_column(theirs, name)
    no_captions = [name for name in CAPTIONS if name in rows.column_names and not holds_texts(rows.features[name])]
    kept = {*KEPT, *wanted} - set(no_captions)
    rows = rows.remove_columns([name for name in rows.column_names if name not in kept])
    for name in wanted:
        what, holds = ("pictures", holds_pictures) if name in PICTURES else ("texts", holds_texts)
        if not holds(rows.features[name]):
            theirs = getattr(settings, f"{name}_column")
            raise ValueError(f"{settings.data} holds no {what} in its column {theirs}: name the one that does.")
        if name in PICTURES:
            rows = rows.cast_column(name, Image(decode=False))
    return both_ways(rows) if isinstance(rows, datasets.Dataset) and INVERSE in rows.column_names else rows


def holds_pictures(feature: Any) -> bool:
    """Whether a column is of picture files."""
    if isinstance(feature, dict):
        return "bytes" in feature
    return isinstance(feature, Image) or getattr(feature, "dtype", None) in ("binary", "large_binary")


def holds_texts(feature: Any) -> bool:
    """Whether a column is of texts, or empty."""
    return getattr(feature, "dtype", None) in ("string", "large_string", "null")


def both_ways(rows: datasets.Dataset) -> datasets.Dataset:
    """The rows, and behind them those that have an instruction back, turned round. A triplet's have one id."""
    back = [row for row, text in enumerate(rows[INVERSE]) if (text or "").strip()]
    if back and "triplet_id" not in rows.column_names:
        rows = rows.add_column("triplet_id", triplet_names(rows, [text or "" for text in rows["edit_prompt"]]))
    turned = rows.select(back).remove_columns("edit_prompt")
    turned = turned.rename_columns({name: to for name, to in TURNED.items() if name in turned.column_names})
    return datasets.concatenate_datasets([rows.remove_columns(INVERSE), turned])
