"""The oracle: reads a picture of the shapes world and says whether it shows a scene.

Background from the border, colours by the nearest named colour, shape and size by the best of a set of sub-pixel
templates. What is neither plain background nor a well-formed object makes a picture unreadable, so smears, ghosts
and half-made objects are rejected.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from .render import coverage
from .scenes import BACKGROUNDS, CELL, CELLS, COLORS, SHAPES, SIZE, SIZES, Scene, Thing

COLOR_TOLERANCE = 60.0  # RGB distance; the nearest two named colours are over 90 apart
NOISE = 45.0  # RGB distance from the background that counts as none
EMPTY_AREA = 12.0  # pixels of foreground that an empty cell may hold
FIT_TOLERANCE = 0.22  # squared error of the best template over its area
OFFSETS = np.arange(-3.0, 3.01, 0.5)


@dataclass(frozen=True)
class Seen:
    """What a cell shows: an object by name, nothing (`thing` None, `clear`), or something unreadable."""

    thing: Thing | None
    clear: bool


@cache
def templates() -> tuple[list[tuple[str, str, float, float]], np.ndarray]:
    """Every shape and size at every sub-pixel offset: names, and masks [templates, 32·32]."""
    names = [(s, z, dx, dy) for s in SHAPES for z in SIZES for dx in OFFSETS for dy in OFFSETS]
    masks = [coverage(Thing(s, "red", z, 0, dx, dy))[:CELL, :CELL].ravel() for s, z, dx, dy in names]
    return names, np.array(masks, dtype=np.float32)


def nearest(color: np.ndarray, palette: dict[str, tuple[int, int, int]]) -> str | None:
    """The name of the nearest colour, or None when none is within the tolerance."""
    distances = {name: float(np.linalg.norm(color - np.array(rgb))) for name, rgb in palette.items()}
    name = min(distances, key=lambda key: distances[key])
    return name if distances[name] < COLOR_TOLERANCE else None


def read_cell(pixels: np.ndarray, cell: int, background: np.ndarray) -> Seen:
    """Read one cell [32, 32, 3] on a known background colour."""
    away = np.linalg.norm(pixels - background, axis=-1)
    if float(np.clip((away - NOISE) / 45, 0, 1).sum()) < EMPTY_AREA:
        return Seen(None, clear=True)
    # The object's colour: the median of what is furthest from the background, edge pixels left out.
    core = pixels[away >= 0.8 * np.quantile(away, 0.95)]
    color = np.median(core, axis=0)
    name = nearest(color, COLORS)
    if name is None:
        return Seen(None, clear=False)
    direction = color - background
    mask = np.clip((pixels - background) @ direction / (direction @ direction), 0, 1).ravel().astype(np.float32)
    names, masks = templates()
    area = masks.sum(axis=1)
    error = ((masks**2).sum(axis=1) - 2 * masks @ mask + mask @ mask) / area
    best = int(error.argmin())
    if error[best] > FIT_TOLERANCE:
        return Seen(None, clear=False)
    shape, size, dx, dy = names[best]
    return Seen(Thing(shape, name, size, cell, float(dx), float(dy)), clear=True)


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


def change_outside(before: np.ndarray, after: np.ndarray, cells: tuple[int, ...]) -> float:
    """Mean absolute difference, of 1, between two pictures [64, 64, 3] outside the named cells; 0 if nothing is."""
    keep = np.ones((SIZE, SIZE), dtype=bool)
    for cell in cells:
        top, left = CELL * (cell // 2), CELL * (cell % 2)
        keep[top : top + CELL, left : left + CELL] = False
    if not keep.any():
        return 0.0
    return float(np.abs(before.astype(np.float32) - after.astype(np.float32))[keep].mean() / 255)
