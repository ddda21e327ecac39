"""CLIP's view of an edit: did the picture change as the captions do, and is it still the same picture?"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..pairs.clip_filter import ClipScorer, direction_similarity, unit

AS_PUBLISHED = "_as_published"


class Captions(NamedTuple):
    """What is said of an edit, "" where nothing is.

    before, after: captions of the whole pictures
    local:         what the picture after shows where it changed
    """

    before: str
    after: str
    local: str = ""

    @property
    def shown(self) -> str:
        """What the picture after has to show: by this one caption similarity is."""
        return self.local or self.after


NO_CAPTIONS = Captions("", "")


class ClipJudge:
    """Scores edits with a CLIP model of open_clip.

    as_published: also score as InstructPix2Pix's own evaluation does, whose CLIP is fed values from −1 to 1 where it
                  expects 0 to 1, resized without antialiasing; those scores have names that end so
    """

    def __init__(self, scorer: ClipScorer, as_published: bool = False) -> None:
        self.scorer, self.as_published = scorer, as_published

    def names(self, captions: Captions) -> set[str]:
        """The scores that an edit with these captions gets."""
        found = {"image_similarity"}
        found |= {"caption_similarity"} if captions.shown else set()
        found |= {"directional_similarity"} if captions.before and captions.after else set()
        return found | ({name + AS_PUBLISHED for name in found} if self.as_published else set())

    def score(
        self, before: Sequence[np.ndarray], after: Sequence[np.ndarray], captions: Sequence[tuple[str, ...]]
    ) -> list[dict[str, float]]:
        """Scores of edits, given pictures [H, W, 3] uint8, and `Captions` or the captions before and after.

        image_similarity:       of the picture after with the one before
        caption_similarity:     of the picture after with its caption, where it has one
        directional_similarity: of the change of the pictures with the change of the captions, where both have one
        """
        told = [Captions(*each) for each in captions]
        texts = self.texts(told)
        rows = self.compare(self.scorer.encode_pictures(before), self.scorer.encode_pictures(after), told, texts)
        if self.as_published:
            theirs = self.compare(self.features(before), self.features(after), told, texts)
            for row, also in zip(rows, theirs, strict=True):
                row |= {name + AS_PUBLISHED: value for name, value in also.items()}
        return rows

    @torch.inference_mode()
    def texts(self, captions: Sequence[Captions]) -> dict[str, Tensor]:
        """Unit features [d] of every caption."""
        known = list(dict.fromkeys(text for told in captions for text in told if text))
        return dict(zip(known, self.scorer.encode_texts(known), strict=True)) if known else {}

    @staticmethod
    def compare(
        before: Tensor, after: Tensor, captions: Sequence[Captions], texts: Mapping[str, Tensor]
    ) -> list[dict[str, float]]:
        """The scores of pictures' features [N, d]."""
        rows = []
        for one, two, told in zip(before, after, captions, strict=True):
            row = {"image_similarity": float(one @ two)}
            if told.shown:
                row["caption_similarity"] = float(two @ texts[told.shown])
            if told.before and told.after:
                change = texts[told.after] - texts[told.before]
                row["directional_similarity"] = float(direction_similarity((two - one)[None], change))
            rows.append(row)
        return rows

    @torch.inference_mode()
    def features(self, pictures: Sequence[np.ndarray]) -> Tensor:
        """Unit features [N, d] as the original's evaluation computes them (its metrics/compute_metrics.py)."""
        visual, scorer = self.scorer.model.visual, self.scorer
        size = visual.image_size if isinstance(visual.image_size, int) else visual.image_size[0]
        mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (visual.image_mean, visual.image_std))
        features = []
        for picture in pictures:
            pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
            pixels = F.interpolate(pixels, size=(size, size), mode="bicubic", align_corners=False)
            pixels = ((pixels - mean) / std).to(scorer.device, scorer.dtype)
            features.append(unit(scorer.model.encode_image(pixels)))
        return torch.cat(features)
