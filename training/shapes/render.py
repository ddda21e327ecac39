"""Drawing scenes: exact antialiased coverage of each shape, as uint8 pictures."""

import numpy as np

from .scenes import BACKGROUNDS, COLORS, SIZE, SIZES, Scene, Thing

Array = np.ndarray


def signed_distance(shape: str, x: Array, y: Array, radius: float) -> Array:
    """Distance in pixels from (x, y) to the outline of a shape round the origin; negative inside."""
    ax, ay = np.abs(x), np.abs(y)
    if shape == "circle":
        return np.hypot(x, y) - radius
    if shape == "square":
        return np.maximum(ax, ay) - 0.86 * radius
    if shape == "diamond":
        return (ax + ay) / np.sqrt(2) - 0.76 * radius
    if shape == "triangle":
        base = y - 0.72 * radius
        side = (ax * np.sqrt(3) - y) / 2 - 0.56 * radius
        return np.maximum(base, side)
    if shape == "cross":
        long, short = radius, 0.34 * radius
        return np.minimum(np.maximum(ax - long, ay - short), np.maximum(ax - short, ay - long))
    raise ValueError(f"no such shape: {shape!r}")


def coverage(thing: Thing) -> Array:
    """The share of each pixel that an object covers: [64, 64] float in [0, 1]."""
    cx, cy = thing.center
    y, x = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    return np.clip(0.5 - signed_distance(thing.shape, x - cx, y - cy, SIZES[thing.size]), 0, 1)


def render(scene: Scene) -> Array:
    """The scene as a picture: [64, 64, 3] uint8."""
    picture = np.empty((SIZE, SIZE, 3), dtype=np.float64)
    picture[:] = BACKGROUNDS[scene.background]
    for thing in scene.things:
        alpha = coverage(thing)[..., None]
        picture = picture * (1 - alpha) + alpha * np.array(COLORS[thing.color], dtype=np.float64)
    return np.rint(picture).astype(np.uint8)
