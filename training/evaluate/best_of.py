"""The best of several edits of a picture: other noise and other scales, ranked by CLIP.

Which scales suit a picture differs from picture to picture, and finding them by hand is what users of InstructPix2Pix
complain of most. Here candidates are drawn about the scales that are asked for; those that are still the same picture
are ranked by how well it changed as the captions do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
from PIL import Image

from ...ip2p_pipeline.image_io import load_picture, to_pil
from ..pairs.filter_settings import PAPER_THRESHOLDS, SHAPES_THRESHOLDS
from .clip_scores import ClipJudge

TEXT_RANGE, IMAGE_RANGE = (0.6, 1.4), (0.75, 1.35)  # of the scales asked for
LEAST_TEXT, LEAST_IMAGE = 1.0, 1.0
STEPS = (0.7548776662466927, 0.5698402909980532)  # of the R2 sequence, which fills a square evenly at any length


@dataclass(frozen=True)
class Trial:
    """What an edit is tried with."""

    seed: int
    guidance_scale: float
    image_guidance_scale: float


@dataclass(frozen=True)
class Ranked:
    """An edit with its scores and its place: `number` of the trials, from 0."""

    number: int
    scores: dict[str, float]
    is_alike: bool
    """Whether it is still the same picture."""


def trials(times: int, seed: int, guidance_scale: float, image_guidance_scale: float) -> list[Trial]:
    """So many trials, each with a seed of its own; the first has the scales asked for, the others some about them."""
    tried = [Trial(seed, guidance_scale, image_guidance_scale)]
    for number in islice(count(1), times - 1):
        across, up = ((number * step + 0.5) % 1 for step in STEPS)
        text = between(TEXT_RANGE, across) * guidance_scale
        image = between(IMAGE_RANGE, up) * image_guidance_scale
        tried.append(
            Trial(
                seed + number,
                round(max(text, min(LEAST_TEXT, guidance_scale)), 2),
                round(max(image, min(LEAST_IMAGE, image_guidance_scale)), 2),
            )
        )
    return tried


def between(ends: tuple[float, float], share: float) -> float:
    """A number that share of the way from one end to the other, in equal factors."""
    low, high = (math.log(end) for end in ends)
    return math.exp(low + share * (high - low))


def least_image_similarity(clip_model: str) -> float:
    """How like the picture an edit has to be, by the filter that training pairs went through."""
    return (SHAPES_THRESHOLDS if clip_model == "shapes" else PAPER_THRESHOLDS).image


def ranked(
    judge: ClipJudge,
    before: Image.Image,
    edits: Sequence[Image.Image],
    captions: tuple[str, str],
    least: float,
) -> list[Ranked]:
    """The edits, the best first: by directional similarity those at least so like the picture before, then the others
    by their likeness.

    captions: before and after the edit
    """
    # Over white, as `before` is: what colours lie under full transparency is any.
    pictures = [np.array(to_pil(load_picture(edit).rgb).resize(before.size)) for edit in edits]
    rows = judge.score([np.array(before.convert("RGB"))] * len(pictures), pictures, [captions] * len(pictures))
    found = [Ranked(number, row, row["image_similarity"] >= least) for number, row in enumerate(rows)]

    def place(each: Ranked) -> tuple[bool, float]:
        score = "directional_similarity" if each.is_alike else "image_similarity"
        return each.is_alike, each.scores[score]

    return sorted(found, key=place, reverse=True)
