"""The pictures of a call: what of each the model works on, and how its edit becomes a picture again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .batching import per_row
from .image_io import Fit, Picture, fit_picture, load_pictures, restore, uncomposite
from .masks import load_mask, paste_outside


@dataclass(frozen=True, eq=False)
class Source:
    """One picture to edit.

    picture:     as it was given
    fitted:      [3,h,w], of the size at which the model works
    fit:         how it got that size
    mask:        [H,W], 1 = edit, or None for everywhere
    fitted_mask: the mask at that size, [1,h,w]
    background:  RGB, 0..255, that the model sees where the picture is transparent
    keep_alpha:  whether the edit gets the picture's transparency
    """

    picture: Picture
    fitted: Tensor
    fit: Fit
    mask: Tensor | None
    fitted_mask: Tensor | None
    background: Sequence[int]
    keep_alpha: bool

    @property
    def alpha(self) -> Tensor | None:
        """The transparency of the result, [H,W], or None."""
        return self.picture.alpha if self.keep_alpha else None

    def finish(self, edited: Tensor, relevant: Tensor | None = None) -> Tensor:
        """The edit [3,h,w] in the picture's own size [3,H,W], with the picture's own pixels outside the mask.

        relevant: a second mask, of latents [1,h,w]; the edit stays where both have it

        With transparency, the colours are those that look as the model made them over the background.
        """
        rgb, original = restore(edited, self.fit), self.picture.rgb
        if self.alpha is not None:
            rgb, original = uncomposite(rgb, self.alpha, self.background), self.picture.straight
        mask = self.mask
        if relevant is not None:
            at_pixels = F.interpolate(relevant[None].float().cpu(), edited.shape[-2:], mode="bilinear")[0]
            relevant = restore(at_pixels, self.fit)[0]
            mask = relevant if mask is None else mask * relevant
        return rgb if mask is None else paste_outside(original, rgb, mask)


def load_sources(call: Mapping[str, Any], multiple: int) -> list[Source]:
    """The pictures of a pipeline's call with their masks, fitted to sides that are multiples of `multiple`."""
    pictures = load_pictures(call["image"], call["background"])
    masks = [None] * len(pictures)
    if call["mask_image"] is not None:
        masks = per_row("mask_image", call["mask_image"], len(pictures))
    return [load_source(picture, mask, call, multiple) for picture, mask in zip(pictures, masks, strict=True)]


def load_source(picture: Picture, mask_image: Any, call: Mapping[str, Any], multiple: int) -> Source:
    """One picture with its mask, None for everywhere; white for a picture without one where others have one, since
    they run together.
    """
    how = multiple, call["resolution"], call["fit"]
    fitted, fit = fit_picture(picture.rgb, *how)
    mask = fitted_mask = None
    if call["mask_image"] is not None:
        mask = load_mask(mask_image, fit.original, call["mask_feather"])
        fitted_mask, _ = fit_picture(mask[None], *how)
    return Source(picture, fitted, fit, mask, fitted_mask, call["background"], call["alpha"] == "keep")
