"""All scores of edited pictures that an evaluation asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..shapes.oracle import change_outside, shows, unchanged
from .clip_scores import AS_PUBLISHED, NO_CAPTIONS, Captions, ClipJudge
from .perceptual import Dino, Lpips
from .pixels import pixel_scores
from .samples import Sample

ORACLE = frozenset(("right", "kept"))
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
        """The scores that a sample gets. One whose wanted picture can't be read gets fewer: it is tried again."""
        alike = {"l1", "l2", "psnr", "ssim"} if self.pixels else set()
        alike |= {name for name in ("dino", "lpips") if getattr(self, name) is not None}
        found = alike | (self.clip.names(captions_of(sample)) if self.clip is not None else set())
        if sample.wanted is not None:
            alike |= self.clip.names(NO_CAPTIONS) if self.clip is not None else set()
            found |= {name + TO_WANTED for name in alike}
        return found | (ORACLE if sample.edit is not None else set())

    def lacking(self, found: Sequence[tuple[Sample, Mapping[str, float]]]) -> "Metrics":
        """Of all metrics those of which some edit, given with the scores that it has, has not all."""

        def lacks(part: Metrics) -> bool:
            return any(not part.names(sample) - ORACLE <= scores.keys() for sample, scores in found)

        return Metrics(
            clip=self.clip if lacks(Metrics(clip=self.clip)) else None,
            pixels=self.pixels and lacks(Metrics(pixels=True)),
            dino=self.dino if lacks(Metrics(dino=self.dino)) else None,
            lpips=self.lpips if lacks(Metrics(lpips=self.lpips)) else None,
        )

    def score(
        self,
        samples: Sequence[Sample],
        before: Sequence[Image.Image],
        after: Sequence[Image.Image],
        wanted: Sequence[Image.Image | None],
    ) -> list[dict[str, float]]:
        """The scores of edits, compared with the pictures before, and with those wanted where there are any.

        Of the shapes world, whose oracle knows what is right:
        right: 1 where the picture shows just what it should, else 0
        kept:  1 less the mean absolute difference over the pixels that the edit has to leave as they are
        """
        olds, news = ([np.array(picture) for picture in pictures] for pictures in (before, after))
        rows: list[dict[str, float]] = [{} for _ in samples]
        if self.clip is not None:
            rows = self.clip.score(olds, news, [captions_of(sample) for sample in samples])
        for row, sample, old, new, right in zip(rows, samples, olds, news, wanted, strict=True):
            row |= self.likeness(new, old)
            if sample.edit is not None:
                row["right"] = float(shows(new, sample.edit.target))
                row["kept"] = 1 - change_outside(old, new, unchanged(sample.edit.source, sample.edit.target))
            if right is not None:
                row |= {name + TO_WANTED: value for name, value in self.to_wanted(new, np.array(right)).items()}
        return rows

    def to_wanted(self, picture: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
        """How alike an edit is to the picture that is right."""
        found = self.likeness(picture, wanted)
        if self.clip is not None:
            found |= self.clip.score([wanted], [picture], [NO_CAPTIONS])[0]
        return found

    def likeness(self, picture: np.ndarray, other: np.ndarray) -> dict[str, float]:
        """How alike two pictures are, the first one at the other's size."""
        found: dict[str, float] = {}
        if picture.shape != other.shape:
            picture = np.array(Image.fromarray(picture).resize(other.shape[1::-1]))
        if self.pixels:
            found |= pixel_scores(picture, other)
        judges: tuple[Any, ...] = (self.dino, self.lpips)
        for judge in judges:
            found |= judge.score(picture, other) if judge is not None else {}
        return found


def captions_of(sample: Sample) -> Captions:
    """What is said of a sample's edit."""
    return Captions(sample.original_prompt, sample.edited_prompt, sample.local_caption)


def base_name(name: str) -> str:
    """The score that a name is a form of."""
    return name.removesuffix(TO_WANTED).removesuffix(AS_PUBLISHED)
