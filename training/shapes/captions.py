"""Captions of scenes, from a grammar with paraphrases."""

import random
from collections.abc import Collection

from .scenes import CELLS, Scene, Thing

SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
PLACE_PHRASES = ("at the {}", "in the {}", "on the {}")
BACKGROUND_PHRASES = ("on a {} background", "against a {} background", "on {}")


def describe(thing: Thing, rng: random.Random, placed: bool = True) -> str:
    """One object with everything the oracle checks, its place only if `placed`: 'a small red circle at the top left'."""
    size = rng.choice(SIZE_WORDS[thing.size])
    place = rng.choice(PLACE_PHRASES).format(CELLS[thing.cell])
    named = f"a {size} {thing.color} {thing.shape}"
    return f"{named} {place}" if placed else named


def caption(scene: Scene, rng: random.Random, placed: Collection[int] = range(len(CELLS))) -> str:
    """A sentence that determines the scene up to its objects' offsets, and up to the places of those in no cell of
    `placed`."""
    parts = [describe(thing, rng, thing.cell in placed) for thing in scene.things]
    rng.shuffle(parts)
    objects = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    background = rng.choice(BACKGROUND_PHRASES).format(scene.background)
    return f"{background}, {objects}" if rng.random() < 0.2 else f"{objects} {background}"


def some_cells(rng: random.Random) -> list[int]:
    """The cells whose objects a caption places: in half of all captions every one, in the others each by a coin."""
    return [cell for cell in range(len(CELLS)) if rng.random() < 0.5] if rng.random() < 0.5 else [*range(len(CELLS))]
