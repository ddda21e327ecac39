"""The part of a triplet: its candidates with what became of them, as a table, and the work that it comes from."""

import io
from collections.abc import Sequence
from dataclasses import astuple
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from .candidates import PairTriplet, Rendered, Scores, SeedGroup
from .features import FAILED, PART, SCORES


class Work(NamedTuple):
    """A triplet to make pairs of."""

    place: int
    triplet: PairTriplet
    known: pa.Table | None = None
    """Its part in an earlier run, whose candidates are to be judged again."""


class Pictures(NamedTuple):
    """The picture files of a candidate."""

    original_image: bytes
    edited_image: bytes
    mask: bytes | None


def encoded(rendered: Rendered, which: int, image_format: str) -> Pictures:
    """The pictures of a group's candidate as files. A mask is PNG, which keeps it black and white."""
    mask = rendered.masks[which]
    return Pictures(
        encode(rendered.source, image_format),
        encode(rendered.targets[which], image_format),
        None if mask is None else encode(mask, "png"),
    )


def encode(pixels: np.ndarray, image_format: str) -> bytes:
    """A picture as a file: "jpg" with all its colours, or "png"."""
    file = io.BytesIO()
    if image_format == "jpg":
        Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0)
    else:
        Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def decode(file: bytes) -> np.ndarray:
    """A picture of ours, [H, W, 3] uint8."""
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB"))


def made_part(
    place: int,
    triplet: PairTriplet,
    groups: Sequence[SeedGroup],
    scores: Sequence[Scores],
    judged: Sequence[str],
    pictures: Sequence[Pictures | None],
) -> pa.Table:
    """The part of a triplet whose candidates are drawn; `scores`, `judged` and `pictures` have an item for each."""
    drawn = [(group.seed, p, group.guidance_scale) for group in groups for p in group.ps]
    rows: list[dict[str, Any]] = []
    for number, (seed, p, guidance_scale) in enumerate(drawn):
        files = pictures[number]
        rows.append(
            {
                "triplet": place,
                "triplet_id": triplet.id,
                "number": number,
                "seed": seed,
                "p": p,
                "guidance_scale": guidance_scale,
                **dict(zip(SCORES, astuple(scores[number]), strict=True)),
                "verdict": judged[number],
                **({} if files is None else files._asdict()),
            }
        )
    return pa.Table.from_pylist(rows, schema=PART)


def failed_part(place: int, triplet: PairTriplet, problem: str) -> pa.Table:
    """The part of a triplet that can't be made: a single row, which says why."""
    row = {"triplet": place, "triplet_id": triplet.id, "number": -1, "verdict": FAILED, "problem": problem}
    return pa.Table.from_pylist([row], schema=PART)
