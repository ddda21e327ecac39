"""ComfyUI's IMAGE and MASK as the editor takes them: [B,H,W,C] and [B,H,W], floats 0..1."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def pictures_of(image: Tensor) -> list[Tensor]:
    """The pictures of a batch, each [3,H,W] or with alpha [4,H,W], in 0..1; those of one channel become grey ones.

    Upscalers and decoders of ComfyUI leave values a little outside of that range, which are clipped. Raises ValueError
    for an empty batch, and for anything that is no picture.
    """
    if not isinstance(image, Tensor):
        raise ValueError("There is no picture: connect one, as from Load Image.")
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        raise ValueError(f"This is no batch of pictures: its shape is {tuple(image.shape)}, not [B, H, W, 3].")
    if image.numel() == 0:
        raise ValueError("The batch of pictures is empty: connect a picture.")
    if not torch.isfinite(image).all():
        raise ValueError("The picture has values that are no numbers (NaN or infinite): look at what made it.")
    if image.shape[-1] == 1:
        image = image.expand(-1, -1, -1, 3)
    return list(image.clamp(0, 1).movedim(-1, 1))


def masks_of(mask: Tensor | None, pictures: Sequence[Tensor]) -> list[Tensor | None]:
    """A mask [H,W] for each picture, one for all or one each; None edits everywhere.

    A mask of another size but the same proportions is scaled, as ComfyUI's own nodes do. Raises ValueError for other
    proportions, another number of masks, and values that are no numbers.
    """
    if mask is None:
        return [None] * len(pictures)
    if not isinstance(mask, Tensor):
        raise ValueError("This is no mask: connect one, as from Load Image.")
    masks = mask[None] if mask.ndim == 2 else mask
    if masks.ndim != 3 or masks.numel() == 0 or len(masks) not in (1, len(pictures)):
        raise ValueError(
            f"{len(pictures)} pictures need one mask or {len(pictures)}, and this has the shape {tuple(mask.shape)}."
        )
    if not torch.isfinite(masks).all():
        raise ValueError("The mask has values that are no numbers (NaN or infinite): look at what made it.")
    masks = masks.float().clamp(0, 1).expand(len(pictures), -1, -1)
    return [scaled(each, picture) for each, picture in zip(masks, pictures, strict=True)]


def scaled(mask: Tensor, picture: Tensor) -> Tensor:
    """A mask [h,w] in the size of a picture [C,H,W]."""
    size = tuple(picture.shape[1:])
    if tuple(mask.shape) == size:
        return mask
    (h, w), (height, width) = mask.shape, size
    if abs(h * width - w * height) > max(height, width, h, w):  # by more than a pixel
        raise ValueError(
            f"The mask is {w}×{h} (width×height) and the picture {width}×{height}: make a mask of this picture."
        )
    return F.interpolate(mask[None, None], size, mode="bilinear", antialias=True)[0, 0]


def batch_of(pictures: Sequence[Tensor]) -> Tensor:
    """Pictures [3,H,W] of one size as an IMAGE [B,H,W,3] on the CPU."""
    return torch.stack([picture.movedim(0, -1) for picture in pictures]).float().cpu()


def image_of(picture: Image.Image) -> Tensor:
    """A PIL picture as an IMAGE of one."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).float()[None] / 255
