"""Where captions come from: files, folders and datasets of the Hub, read as streams."""

import contextlib
import glob
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ...ip2p_pipeline.errors import first_line

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".parquet": ("from_parquet", {}),
    ".csv": ("from_csv", {"keep_default_na": False, "encoding_errors": "replace"}),
    ".tsv": ("from_csv", {"keep_default_na": False, "encoding_errors": "replace", "sep": "\t"}),
    ".jsonl": ("from_json", {"encoding_errors": "replace"}),
    ".json": ("from_json", {"encoding_errors": "replace"}),
    ".txt": ("from_text", {"encoding_errors": "replace"}),
}
"""How `datasets` reads each kind of file, with its options: a caption may be "NA", and may be no UTF-8."""
CAPTION_COLUMNS = ("text", "caption", "prompt")
AESTHETIC = re.compile(r"(?:predicted_)?aesthetics?(?:_score)?(?:_laion)?(?:_v\d)?", re.I)
HUB_ID = re.compile(r"(?:\w[\w.-]*/)?\w[\w.-]*")


class Stream(NamedTuple):
    """Rows, opened as a `datasets.IterableDataset`, of all columns or only some where that saves reading."""

    name: str
    open: Callable[[list[str] | None], Any]


def caption_rows(source: str, column: str | None, needs_score: bool = False) -> Iterator[tuple[str, float | None]]:
    """Each caption of a source with its picture's aesthetic score: None where no column holds one, NaN where it is
    missing or no number.

    Raises ValueError and OSError, as `sample_captions` says.
    """
    for stream in streams(source):
        columns = columns_of(stream)
        text_column = caption_column(stream.name, columns, column)
        score_column = next((name for name in columns if AESTHETIC.fullmatch(name)), None)
        if needs_score and score_column is None:
            raise ValueError(f"{stream.name} has no column of aesthetic scores, only {', '.join(columns)}.")
        for row in rows(stream, [text_column, *([score_column] if score_column else [])]):
            text = row.get(text_column) or ""
            if not isinstance(text, str):
                raise ValueError(f"The column {text_column} of {stream.name} holds no texts, but {str(text)[:50]}.")
            yield text, None if score_column is None else number(row.get(score_column))


def number(value: Any) -> float:
    """A number, or NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def caption_column(name: str, columns: list[str], wanted: str | None) -> str:
    """The column of the captions. Raises ValueError where the one wanted is not there, or none or several may be it."""
    listing = f"{name} has the columns {', '.join(columns)}"
    if wanted is not None:
        if wanted not in columns:
            raise ValueError(f"There is no column {wanted}: {listing}.")
        return wanted
    candidates = columns if len(columns) == 1 else [each for each in columns if each.lower() in CAPTION_COLUMNS]
    if len(candidates) != 1:
        raise ValueError(f"Say with --column which column holds the captions: {listing}.")
    return candidates[0]


def columns_of(stream: Stream) -> list[str]:
    """The names of a stream's columns, in order."""
    with readable(stream.name):
        opened = stream.open(None)
        return list(opened.features or next(iter(opened), {}))


def rows(stream: Stream, columns: list[str]) -> Iterator[dict[str, Any]]:
    """A stream's rows, with these columns only."""
    with readable(stream.name):
        yield from stream.open(columns).select_columns(columns)


@contextlib.contextmanager
def readable(name: str) -> Iterator[None]:
    """Within it, what can't be read raises ValueError in a sentence with the name."""
    import datasets

    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what it logs is raised, too
    try:
        yield
    except datasets.exceptions.DatasetNotFoundError:
        raise ValueError(f"There is no dataset {name} on the Hub, or your account may not read it.") from None
    except ConnectionError:
        raise ValueError(f"The Hub can't be reached for the dataset {name}{offline()}.") from None
    except (OSError, ValueError, RuntimeError, KeyError, StopIteration, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"{name} can't be read: {first_line(error)}.") from None


def streams(source: str) -> Iterator[Stream]:
    """The parts of a source: each file by itself, so that a damaged one is named."""
    path = Path(source).expanduser()
    if path.is_dir():
        if any((path / name).exists() for name in ("dataset_info.json", "dataset_dict.json")):
            yield Stream(source, partial(open_saved, path))
        else:
            yield from map(file_stream, files_in(path))
    elif path.exists():
        yield file_stream(path)
    elif path.suffix.lower() in FORMATS or not HUB_ID.fullmatch(source):
        raise ValueError(f"There is no file or folder {source}.")
    else:
        yield Stream(source, partial(open_hub, source))


def is_laion(source: str) -> bool:
    """Whether a source is one of LAION's datasets on the Hub, or a copy."""
    return "laion" in source.lower() and not Path(source).expanduser().exists()


def files_in(folder: Path) -> list[Path]:
    """The files of a folder in order, of the first kind of FORMATS that it has."""
    for suffix in FORMATS:
        files = sorted(file for file in folder.rglob(f"*{suffix}") if file.is_file())
        if files:
            return files
    raise ValueError(f"The folder {folder} has no file of captions: none that ends in {', '.join(FORMATS)}.")


def file_stream(path: Path) -> Stream:
    """A file's rows. Raises ValueError for a kind of file that can't be read, and for an empty one."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path} is no file of captions: its name ends in none of {', '.join(FORMATS)}.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty.")
    return Stream(str(path), partial(open_file, path))


def open_file(path: Path, columns: list[str] | None) -> Any:
    """A file's rows."""
    from datasets import IterableDataset

    reader, options = FORMATS[path.suffix.lower()]
    if reader == "from_parquet":
        options = options | {"columns": columns}
    return getattr(IterableDataset, reader)(glob.escape(str(path.resolve())), **options)


def open_saved(path: Path, columns: list[str] | None) -> Any:
    """The rows of a folder that `save_to_disk` wrote."""
    from datasets import DatasetDict, load_from_disk

    saved = load_from_disk(path)
    return one_split(saved if isinstance(saved, DatasetDict) else {"train": saved}).to_iterable_dataset()


def open_hub(source: str, columns: list[str] | None) -> Any:
    """The rows of a dataset on the Hub."""
    from datasets import load_dataset_builder
    from huggingface_hub.utils.logging import set_verbosity_error

    set_verbosity_error()  # it counts its attempts
    builder = load_dataset_builder(source)
    if columns is not None and hasattr(builder.config, "columns"):  # Parquet: only these are downloaded
        builder = load_dataset_builder(source, columns=columns)
    return one_split(builder.as_streaming_dataset())


def one_split(splits: dict[Any, Any]) -> Any:
    """The training split, or all splits where none is called so."""
    from datasets import concatenate_datasets

    return splits["train"] if "train" in splits else concatenate_datasets(list(splits.values()))


def offline() -> str:
    """Why the Hub can't be reached, where that is by choice."""
    from huggingface_hub import is_offline_mode

    return ": HF_HUB_OFFLINE is set" if is_offline_mode() else ""
