"""Guidance that ends once it has done its work (Adaptive Guidance, Castillo et al. 2023, arXiv 2312.12487, sec. 5).

As an edit takes shape, the predictions with a condition and without become one, and to compute both is to pay twice.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

PAIRS = (("full", "image"), ("image", "uncond"))  # what the instruction's guidance tells apart, and the image's
NEVER = torch.iinfo(torch.int64).max


def agree(on: Tensor, off: Tensor, similarity: float) -> Tensor:
    """Whether two predictions [B,C,h,w] are one, row by row: their cosine is above `similarity`, [B] on the CPU."""
    return (F.cosine_similarity(on.flatten(1).float(), off.flatten(1).float()) > similarity).cpu()


class AdaptiveStop:
    """Ends each image's guidances, each by itself, from the step after its two predictions agree.

    similarity: γ̄, the cosine from which they do, above 0 and below 1; the paper's are 0.991 to 0.996
    """

    def __init__(self, similarity: float, batch_size: int) -> None:
        if not (isinstance(similarity, int | float) and 0 < similarity < 1):
            raise ValueError(f"adaptive_stop must be above 0 and below 1, got {similarity!r}.")
        self.similarity = similarity
        self._last_steps = {on: torch.full((batch_size,), NEVER) for on, _ in PAIRS}

    def scale(self, branch: str, step: int, scale: Tensor) -> Tensor:
        """The scales [B] of a guidance at this step: 1 where it has ended. One below 1 is not guidance, and stays."""
        return scale.where((step <= self._last_steps[branch]) | (scale <= 1), 1.0)

    def observe(self, step: int, predictions: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        """See which guidances have done their work at this step.

        Only by branches that weigh something for the image itself: its neighbours' must not matter.
        """
        for on, off in PAIRS:
            used = (weights[on] != 0) & (weights[off] != 0)
            if used.any():
                agreed = agree(predictions[on], predictions[off], self.similarity) & used
                last = self._last_steps[on]
                self._last_steps[on] = last.where(~agreed, last.clamp(max=step))
