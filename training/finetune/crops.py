"""From pictures of any size to those of one: the same crop and mirror image before and after."""

import random
import re
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..pairs.importers import APART
from ..pairs.pictures import as_rgb
from .examples import Example

ASPECTS = (4 / 5, 3 / 4, 2 / 3, 9 / 16, 1 / 2)  # of buckets, height to width or the reverse
MULTIPLE = 32  # pixels, of buckets' sides
SIDES = re.compile(r"\b(left|right)(?:most|ward|wards|hand)?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Crop:
    """What becomes of a picture: resized to width × height, cut out at (left, top), and mirrored or not."""

    width: int
    height: int
    left: int
    top: int
    mirrored: bool


def sizes(resolution: int, buckets: bool) -> list[tuple[int, int]]:
    """The sizes (height, width) that are trained at: a square, and with buckets others of about its area."""
    found = [(resolution, resolution)]
    for aspect in ASPECTS if buckets else ():
        short = max(1, round(resolution * aspect**0.5 / MULTIPLE)) * MULTIPLE
        long = max(1, round(resolution**2 / short / MULTIPLE)) * MULTIPLE
        found += [(short, long), (long, short)]
    return list(dict.fromkeys(found))


def nearest(size: tuple[int, int], known: list[tuple[int, int]]) -> tuple[int, int]:
    """The size (height, width) of the nearest aspect."""
    aspect = np.log(size[0] / size[1])
    return min(known, key=lambda each: abs(np.log(each[0] / each[1]) - aspect))


def may_mirror(example: Example) -> bool:
    """Whether no text of an example speaks of left or right."""
    return not any(SIDES.search(text) for text in (example.edit_prompt, example.original_prompt, example.edited_prompt))


def draw_crop(
    rng: random.Random, picture: tuple[int, int], size: tuple[int, int], enlarged: float, mirror: float
) -> Crop:
    """A random crop to `size` of a picture, both (height, width).

    enlarged: before cropping, the picture covers the size and up to this many times it (the paper: 288/256)
    mirror:   probability of the mirror image
    """
    scale = max(size[0] / picture[0], size[1] / picture[1]) * rng.uniform(1, enlarged)
    height, width = (max(round(side * scale), wanted) for side, wanted in zip(picture, size, strict=True))
    left, top = rng.randint(0, width - size[1]), rng.randint(0, height - size[0])
    return Crop(width, height, left, top, rng.random() < mirror)


def cropped(image: Image.Image, crop: Crop, size: tuple[int, int]) -> Tensor:
    """The part of a picture, [3, height, width] in 0…1."""
    if image.size != (crop.width, crop.height):
        image = image.resize((crop.width, crop.height), Image.Resampling.LANCZOS)
    image = image.crop((crop.left, crop.top, crop.left + size[1], crop.top + size[0]))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return pixels.flip(-1) if crop.mirrored else pixels


def opened(example: Example) -> tuple[Image.Image, Image.Image]:
    """Both pictures. Raises ValueError where one is damaged, or they are not of one shape."""
    before = as_rgb(example.original_image, f"{example.name}, the picture before")
    after = as_rgb(example.edited_image, f"{example.name}, the picture after")
    if abs(before.width * after.height / (before.height * after.width) - 1) > APART:
        raise ValueError(
            f"{example.name} is {before.width}×{before.height} before and {after.width}×{after.height} after, "
            "not of one shape"
        )
    return before, after
