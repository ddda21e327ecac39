"""All scores of edited pictures that an evaluation asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..shapes.oracle import change_outside, shows, unchanged
from .clip_scores import ClipJudge
from .perceptual import Dino, Lpips
from .pixels import pixel_scores
from .samples import Sample

TO_WANTED = "_to_wanted"
"""Ends the names of scores that compare with the picture that is right, not with the one before."""
HIGHER_IS_BETTER = {
    "directional_similarity": True,
    "image_similarity": True,
    "caption_similarity": True,
    "dino": True,
    "ssim": True,
    "psnr": True,
    "right": True,
    "kept": True,
    "l1": False,
    "l2": False,
    "lpips": False,
}


@dataclass(frozen=True)
class Metrics:
    """What is measured.

    clip, dino, lpips: None where they are not asked for
    pixels:            L1, L2, PSNR and SSIM
    """

    clip: ClipJudge | None = None
    pixels: bool = False
    dino: Dino | None = None
    lpips: Lpips | None = None

    def names(self, sample: Sample) -> set[str]:
        """The scores that a sample gets."""
        alone = set()
        if self.clip is not None:
            alone |= {"image_similarity"}
            captioned = {"caption_similarity", "directional_similarity"}
            alone |= captioned if sample.original_prompt and sample.edited_prompt else set()
        alone |= {"l1", "l2", "psnr", "ssim"} if self.pixels else set()
        alone |= {name for name in ("dino", "lpips") if getattr(self, name) is not None}
        return alone | ({"right", "kept"} if sample.edit is not None else set())

    def score(
        self, samples: Sequence[Sample], before: Sequence[Image.Image], after: Sequence[Image.Image]
    ) -> list[dict[str, float]]:
        """The scores of edits, compared with the pictures before, and where there is one with the wanted picture.

        Of the shapes world, whose oracle knows what is right:
        right: 1 where the picture shows just what it should, else 0
        kept:  1 less the mean absolute difference over the pixels that the edit has to leave as they are
        """
        olds, news = ([np.array(picture) for picture in pictures] for pictures in (before, after))
        captions = [(sample.original_prompt, sample.edited_prompt) for sample in samples]
        rows: list[dict[str, float]] = [{} for _ in samples]
        if self.clip is not None:
            rows = self.clip.score(olds, news, captions)
        for row, sample, old, new in zip(rows, samples, olds, news, strict=True):
            row |= self.likeness(new, old)
            if sample.edit is not None:
                row["right"] = float(shows(new, sample.edit.target))
                row["kept"] = 1 - change_outside(old, new, unchanged(sample.edit.source, sample.edit.target))
            if sample.wanted is not None:
                wanted = sample.wanted()
                fitted = Image.fromarray(new)
                fitted = fitted if fitted.size == wanted.size else fitted.resize(wanted.size)
                found = self.likeness(np.array(fitted), np.array(wanted))
                if self.clip is not None:
                    [told] = self.clip.score([np.array(wanted)], [new], [("", "")])
                    found |= told
                row |= {name + TO_WANTED: value for name, value in found.items()}
        return rows

    def likeness(self, picture: np.ndarray, other: np.ndarray) -> dict[str, float]:
        """How alike two pictures of one size are."""
        found: dict[str, float] = {}
        if picture.shape != other.shape:
            picture = np.array(Image.fromarray(picture).resize(other.shape[1::-1]))
        if self.pixels:
            found |= pixel_scores(picture, other)
        judges: tuple[Any, ...] = (self.dino, self.lpips)
        for judge in judges:
            found |= judge.score(picture, other) if judge is not None else {}
        return found


def base_name(name: str) -> str:
    """The score that a name is a form of."""
    return name.removesuffix(TO_WANTED).removesuffix("_as_published")
