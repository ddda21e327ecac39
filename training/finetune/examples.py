"""The pairs that are trained on: rows of a dataset by triplets, with the pictures as files."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import datasets

CAPTIONS = ("original_prompt", "edited_prompt")
HELD_OUT_SHARE = 0.1  # of the triplets, at most


@dataclass(frozen=True)
class Example:
    """A row: both pictures as files, and its texts; a caption that the data has not is empty."""

    name: str
    original_image: bytes
    edited_image: bytes
    edit_prompt: str
    original_prompt: str
    edited_prompt: str

    def contents(self) -> tuple[bytes | str, ...]:
        """All that the row holds."""
        return self.original_image, self.edited_image, self.edit_prompt, self.original_prompt, self.edited_prompt


class Examples:
    """A dataset of which any row can be read.

    triplets: the rows of each triplet that is trained on; a triplet's pairs share its texts
    held_out: a row of each triplet that is not
    empty:    how many rows have no instruction, and are left out
    digest:   of all instructions
    """

    def __init__(self, rows: datasets.Dataset, held_out: int, share: float = 1.0, seed: int = 0) -> None:
        """`rows` is what `sources.open_rows` gives. Raises ValueError where no row has an instruction.

        share: of the triplets that are not held out, which the seed draws; a larger share has all of a smaller one
        """
        self.rows = rows
        instructions = [text or "" for text in rows["edit_prompt"]]
        self.digest = hashlib.sha256("\n".join(instructions).encode()).hexdigest()[:16]
        groups: dict[str, list[int]] = {}
        for row, name in enumerate(triplet_names(rows, instructions)):
            if instructions[row].strip():
                groups.setdefault(name, []).append(row)
        self.empty = len(rows) - sum(map(len, groups.values()))
        if not groups:
            raise ValueError("The data has no row with an instruction: there is nothing to train on.")
        chosen = kept_back(groups, held_out)
        trained = sorted(groups.keys() - chosen, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
        kept = set(trained[: max(1, round(share * len(trained)))])
        self.triplets = [members for name, members in groups.items() if name in kept]
        self.held_out = [members[0] for name, members in groups.items() if name in chosen]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Example:
        return as_example(f"row {row}", self.rows[int(row)])


def kept_back(triplets: Collection[str], count: int) -> set[str]:
    """The triplets that a training holds out: so many, and at most `HELD_OUT_SHARE` of all that have an instruction.

    By hash: where the data grow, most of what was held out still is.
    """
    count = min(count, int(HELD_OUT_SHARE * len(triplets)))
    return set(sorted(triplets, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])


def triplet_names(rows: datasets.Dataset, instructions: list[str]) -> list[str]:
    """What tells a row's triplet from others: its id, else all its texts where there are captions, else the row."""
    names: list[str | None] = [None] * len(rows)
    if "triplet_id" in rows.column_names:
        names = list(rows["triplet_id"])
    elif all(name in rows.column_names for name in CAPTIONS):
        texts = zip(*(rows[name] for name in CAPTIONS), instructions, strict=True)
        names = ["\n".join(map(str, each)) for each in texts]
    return [f"row {row}" if name is None else str(name) for row, name in enumerate(names)]


def as_example(name: str, told: dict[str, Any]) -> Example:
    """A row as `datasets` tells it. Raises ValueError where a picture is missing.

    A picture that is only a path is not read: a dataset's rows could name any file of this machine.
    """
    files = []
    for column in ("original_image", "edited_image"):
        content = (told[column] or {}).get("bytes")
        if not content:
            raise ValueError(f"{name} has no {column} in it")
        files.append(content)
    captions = [told.get(column) or "" for column in CAPTIONS]
    return Example(name, files[0], files[1], told["edit_prompt"] or "", captions[0], captions[1])
