"""The card of a published dataset: the one that it was made with, for its place on the Hub."""

import re
from pathlib import Path

import pyarrow.parquet as pq

from ..training.pairs.card import card
from .licenses import check_license


def dataset_card(folder: Path, repo: str, license_name: str | None) -> str:
    """The card of a dataset of pairs, as README.md.

    The folder's own card, whose commands name a folder, gets the repository's id and the license. Where there is none
    one is written from the columns. Raises ValueError without a license, or for Parquet files of something else.
    """
    check_license(license_name)
    path = folder / "README.md"
    rows = examples(folder)
    text = (
        path.read_text(encoding="utf-8")
        if path.is_file()
        else card(folder, rows, ["Pairs of pictures."], ["instruct-pix2pix"])
    )
    text = text.replace(f"./{folder.resolve().name or 'pairs'}", repo).replace(
        "  # from the folder that holds this one", ""
    )
    front = re.match(r"---\n(.*?\n)---\n", text, re.DOTALL)
    if front is None:
        raise ValueError(f"{path} has no metadata at its beginning: remove it, and a card is written.")
    told = re.search(r"^license: (.+)$", front[1], re.MULTILINE)
    if license_name is None and told is None:
        raise ValueError(
            "The dataset's license is not known: say it with --license, as the Hub names it. The pictures are derived "
            "from those, or drawn by the model, that the card names."
        )
    if license_name is not None:
        if told is not None and told[1].strip() not in (license_name, "unknown", "other"):
            raise ValueError(f"The dataset's card says {told[1].strip()}, and --license {license_name}: which is it?")
        rest = re.sub(r"^license: .+\n", "", front[1], flags=re.MULTILINE)
        text = f"---\nlicense: {license_name}\n{rest}---\n" + text[front.end() :]
    return text


def examples(folder: Path) -> int:
    """How many rows a dataset has. Raises ValueError unless they are pairs."""
    count = 0
    for path in sorted(folder.glob("data/*.parquet")):
        try:
            file = pq.ParquetFile(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is damaged or cut short: make it again.") from error
        lacking = {"original_image", "edit_prompt", "edited_image"} - set(file.schema_arrow.names)
        if lacking:
            raise ValueError(f"{path} holds no pairs: it lacks {', '.join(sorted(lacking))}.")
        count += file.metadata.num_rows
    return count
