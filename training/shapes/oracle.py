"""The oracle: reads a picture of the shapes world and says whether it shows a scene.

Background from the border, colours by the nearest named colour, shape and size by the best of a set of sub-pixel
templates. What is neither plain background nor a well-formed object makes a picture unreadable, so smears, ghosts
and half-made objects are rejected.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageFilter

from .render import coverage
from .scenes import BACKGROUNDS, CELL, CELLS, COLORS, SHAPES, SIZE, SIZES, Scene, Thing

COLOR_TOLERANCE = 50.0  # RGB distance; a half-transparent object is over 54 away from its colour
NOISE = 45.0  # RGB distance from the colour a pixel should have that counts as none
STRAY_AREA = 12.0  # pixels of a cell that may have a colour of neither its object nor the background
WRONG_AREA = 12.0  # pixels that the object may cover where the best template does not, or the reverse
WRONG = 0.3  # difference between an object's and a template's cover of a pixel that counts as wrong
RIVAL = 0.6  # the best template's squared error, as a share of that of any other shape or size, at most
REACH = 3  # pixels between the offsets that an object may have
OFFSETS = np.arange(-3.0, 3.01, 0.5)


@dataclass(frozen=True)
class Seen:
    """What a cell shows: an object by name, nothing (`thing` None, `clear`), or something unreadable."""

    thing: Thing | None
    clear: bool


@dataclass(frozen=True)
class Templates:
    """Every shape and size at every sub-pixel offset, grouped by shape and size."""

    names: list[tuple[str, str]]
    offsets: list[tuple[float, float]]
    masks: np.ndarray  # [names, offsets, 16·16]: half size, see `soften`


def soften(mask: np.ndarray) -> np.ndarray:
    """Masks [..., 32, 32] blurred by a pixel and halved to [..., 16·16], so that slightly soft pictures still fit."""
    for axis in (-2, -1):
        for _ in range(2):
            mask = (np.roll(mask, 1, axis) + 2 * mask + np.roll(mask, -1, axis)) / 4
    return mask[..., ::2, ::2].reshape(*mask.shape[:-2], -1)


@cache
def templates() -> Templates:
    """All templates, drawn once."""
    names = [(shape, size) for shape in SHAPES for size in SIZES]
    offsets = [(float(dx), float(dy)) for dx in OFFSETS for dy in OFFSETS]
    sharp = [[coverage(Thing(shape, "red", size, 0, *at))[:CELL, :CELL] for at in offsets] for shape, size in names]
    return Templates(names, offsets, soften(np.array(sharp, dtype=np.float32)))


def nearest(color: np.ndarray, palette: dict[str, tuple[int, int, int]]) -> str | None:
    """The name of the nearest colour, or None when none is within the tolerance."""
    distances = {name: float(np.linalg.norm(color - np.array(rgb))) for name, rgb in palette.items()}
    name = min(distances, key=lambda key: distances[key])
    return name if distances[name] < COLOR_TOLERANCE else None


def stray_area(pixels: np.ndarray, expected: np.ndarray) -> float:
    """How many pixels are not of the expected colour; those that are nearly so count in part."""
    return float(np.clip((np.linalg.norm(pixels - expected, axis=-1) - NOISE) / 45, 0, 1).sum())


def read_cell(pixels: np.ndarray, cell: int, background: np.ndarray) -> Seen:
    """Read one cell [32, 32, 3] on a known background colour."""
    if stray_area(pixels, background) < STRAY_AREA:
        return Seen(None, clear=True)
    # The object's colour: the median of what is furthest from the background, edge pixels left out.
    away = np.linalg.norm(pixels - background, axis=-1)
    color = np.median(pixels[away >= 0.8 * np.quantile(away, 0.95)], axis=0)
    name = nearest(color, COLORS)
    if name is None:
        return Seen(None, clear=False)
    direction = color - background
    mask = np.clip((pixels - background) @ direction / (direction @ direction), 0, 1)
    if stray_area(pixels, background + mask[..., None] * direction) > STRAY_AREA:
        return Seen(None, clear=False)
    mask = soften(mask.astype(np.float32))
    known = templates()
    errors = ((known.masks - mask) ** 2).sum(axis=-1)
    kinds = errors.min(axis=1)
    best = int(kinds.argmin())
    at = int(errors[best].argmin())
    wrong = 4 * float((np.abs(known.masks[best, at] - mask) > WRONG).sum())
    if wrong > WRONG_AREA or kinds[best] > RIVAL * np.delete(kinds, best).min():
        return Seen(None, clear=False)
    shape, size = known.names[best]
    return Seen(Thing(shape, name, size, cell, *known.offsets[at]), clear=True)


def read(picture: np.ndarray) -> Scene | None:
    """The scene that a picture [64, 64, 3] uint8 shows, or None when it shows none clearly."""
    pixels = picture.astype(np.float32)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background_color = np.median(border, axis=0)
    background = nearest(background_color, BACKGROUNDS)
    if background is None:
        return None
    seen = []
    for cell in range(len(CELLS)):
        top, left = CELL * (cell // 2), CELL * (cell % 2)
        seen.append(read_cell(pixels[top : top + CELL, left : left + CELL], cell, background_color))
    if not all(each.clear for each in seen):
        return None
    return Scene(background, tuple(each.thing for each in seen if each.thing is not None))


def names(scene: Scene) -> set[tuple[str, str, str, int]]:
    """What of a scene the captions determine: each object's shape, colour, size and cell."""
    return {(thing.shape, thing.color, thing.size, thing.cell) for thing in scene.things}


def shows(picture: np.ndarray, scene: Scene) -> bool:
    """Whether a picture [64, 64, 3] uint8 shows exactly this scene, up to its objects' offsets."""
    found = read(picture)
    return found is not None and found.background == scene.background and names(found) == names(scene)


def unchanged(source: Scene, target: Scene) -> np.ndarray:
    """Which pixels an edit must leave as they are, [64, 64] bool.

    Those further than `REACH` from each object that comes, goes or becomes another; for a change of background those
    within the objects. Caption and instruction leave an object's offset open, which is what the reach is for.
    """
    if source.background != target.background:
        return grown(inside(source.things) < 1, 1) == 0
    return ~grown(inside(set(source.things) ^ set(target.things)) > 0, REACH)


def inside(things: Iterable[Thing]) -> np.ndarray:
    """How much of each pixel objects cover, [64, 64] in [0, 1]."""
    return np.max([np.zeros((SIZE, SIZE)), *map(coverage, things)], axis=0)


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    """A mask [64, 64] bool, and all within so many pixels of it."""
    return np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(2 * pixels + 1))) > 0


def change_outside(before: np.ndarray, after: np.ndarray, where: np.ndarray) -> float:
    """Mean absolute difference, of 1, between two pictures [64, 64, 3] over the pixels `where` [64, 64] is true."""
    return float(np.abs(before.astype(np.float32) - after.astype(np.float32))[where].mean() / 255)
