"""Where to edit: masks read as pictures are, feathered, and the input put back outside them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .image_io import TOLERANCE, ImageInput, channels_last, read_array, read_file, read_pil

BLACK = (0, 0, 0)


def load_mask(mask: ImageInput | None, size: tuple[int, int], feather: float = 0.0) -> Tensor:
    """Read a mask for a picture of `size` (height, width): [H,W] float32, 1 = edit here, 0 = keep, soft in between.

    mask:       as a picture of `load_picture`; its brightness counts, transparent parts are kept, EXIF is ignored,
                and so is a leading batch of one. 8-bit masks of zeros and ones only are taken as such. None edits
                everywhere.
    feather:    softens the edge inwards by a Gaussian of this standard deviation in pixels, so that every pixel that
                the mask keeps stays kept. The picture's own border is no edge.

    Raises ValueError for another size than the picture's, a mask without any pixel to edit, a value outside 0..1, and
    a negative or non-finite feather.
    """
    if not 0 <= feather < float("inf"):
        raise ValueError(f"feather is a number of pixels, at least 0, not {feather}.")
    if mask is None:
        return torch.ones(size)
    soft = _read_mask(mask)
    if soft.shape != size:
        raise ValueError(
            f"The mask is {soft.shape[1]}×{soft.shape[0]} (width×height) and the picture {size[1]}×{size[0]}: "
            "make them the same size."
        )
    if not soft.any():
        raise ValueError("The mask is black everywhere, so nothing may change: paint white what is to be edited.")
    if soft.max() == np.float32(1) / 255:
        soft = soft * 255
    if feather > 0:
        distance = _distance_inside(soft.numpy() > 0, limit=6 * feather)  # where the edge is no more felt
        # What a Gaussian blur makes of a straight edge, from the edge inwards, stretched to begin at 0. By distance,
        # not by blurring: a blur would fade narrow masks away.
        # In double, as float32's erf is just below 1 on some machines where the edge is far.
        soft = soft * torch.erf(torch.from_numpy(distance).double() / (feather * 2**0.5)).float()
    return soft


def _read_mask(mask: ImageInput) -> Tensor:
    if isinstance(mask, str | Path):
        picture = read_file(Path(mask), BLACK, exif=False)
    elif isinstance(mask, Image.Image):
        picture = read_pil(mask, BLACK, exif=False)
    else:
        if isinstance(mask, Tensor) and mask.is_floating_point() and (mask < -TOLERANCE).any():
            raise ValueError("The mask holds values below 0: scale it to 0..1.")
        array = channels_last(mask)
        if array.ndim == 4 and len(array) != 1:
            raise ValueError(f"A batch of {len(array)} masks was given where one is expected: give a list of them.")
        picture = read_array(array[0] if array.ndim == 4 else array, BLACK)
    return picture.rgb.double().mean(dim=0).float()  # in double, so that a grey value comes out as it was


def _distance_inside(inside: np.ndarray, limit: float) -> np.ndarray:
    """Euclidean distance in pixels from each pixel [H,W] to the nearest one outside, up to `limit`; 0 outside.

    Exact and separable (Felzenszwalb & Huttenlocher 2012): first along columns, then the best over each row.
    """
    rows = np.arange(len(inside), dtype=np.float32)[:, None]
    above = rows - np.maximum.accumulate(np.where(inside, -np.inf, rows), axis=0)
    below = np.minimum.accumulate(np.where(inside, np.inf, rows)[::-1], axis=0)[::-1] - rows
    in_column = np.minimum(np.minimum(above, below), limit).astype(np.float32) ** 2
    nearest = in_column.copy()
    for shift in range(1, min(int(limit), inside.shape[1] - 1) + 1):
        cost = in_column + np.float32(shift) ** 2
        np.minimum(nearest[:, shift:], cost[:, :-shift], out=nearest[:, shift:])
        np.minimum(nearest[:, :-shift], cost[:, shift:], out=nearest[:, :-shift])
    return np.sqrt(nearest)


def paste_outside(original: Tensor, edited: Tensor, mask: Tensor) -> Tensor:
    """The edit [3,H,W] inside the mask [H,W], the original outside, a mix where the mask is soft.

    Where the mask is 0 the original comes back exactly, where it is 1 the edit.
    """
    return torch.where(mask == 0, original, torch.lerp(original, edited, mask))
