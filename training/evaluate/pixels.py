"""How far two pictures are apart by their pixels, values from 0 to 1."""

import math

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

PSNR_OF_EQUALS = 100.0
"""dB, of pictures without any difference."""


def pixel_scores(picture: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """`l1` and `l2`, the mean absolute and squared difference; `psnr` in dB; `ssim` (Wang et al. 2004), at most 1.

    Pictures are [H, W, 3] uint8 of the same size.
    """
    one, two = (torch.from_numpy(each.astype(np.float64) / 255) for each in (picture, other))
    difference = one - two
    l2 = float(difference.square().mean())
    ssim = structural_similarity_index_measure(channels_first(one), channels_first(two), data_range=1.0)
    return {
        "l1": float(difference.abs().mean()),
        "l2": l2,
        "psnr": -10 * math.log10(l2) if l2 > 1e-10 else PSNR_OF_EQUALS,
        "ssim": float(torch.as_tensor(ssim)),
    }


def channels_first(picture: Tensor) -> Tensor:
    """[H, W, 3] → [1, 3, H, W]."""
    return picture.permute(2, 0, 1)[None]
