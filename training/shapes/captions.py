"""Captions of scenes, from a grammar with paraphrases."""

import random
from collections.abc import Collection

from .scenes import CELLS, Scene, Thing

SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
PLACE_PHRASES = ("at the {}", "in the {}", "on the {}")
BACKGROUND_PHRASES = ("on a {} background", "against a {} background", "on {}")
ALL_CELLS = range(len(CELLS))


def describe(thing: Thing, rng: random.Random, placed: bool = True) -> str:
    """One object with everything the oracle checks: 'a small red circle at the top left'; without `placed` no place."""
    size = rng.choice(SIZE_WORDS[thing.size])
    place = rng.choice(PLACE_PHRASES).format(CELLS[thing.cell])
    named = f"a {size} {thing.color} {thing.shape}"
    return f"{named} {place}" if placed else named


def caption(scene: Scene, rng: random.Random, placed: Collection[int] = ALL_CELLS) -> str:
    """A sentence that determines the scene up to its objects' offsets.

    Of objects in cells that are not in `placed` it does not say where they are.
    """
    parts = [describe(thing, rng, thing.cell in placed) for thing in scene.things]
    rng.shuffle(parts)
    ground = rng.choice(BACKGROUND_PHRASES).format(scene.background)
    return joined(parts, ground, ground_first=rng.random() < 0.2)


def joined(parts: list[str], ground: str, ground_first: bool) -> str:
    """The phrases of objects and of their background as a sentence."""
    objects = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    return f"{ground}, {objects}" if ground_first else f"{objects} {ground}"


def name(thing: Thing) -> tuple[str, str, str]:
    """What an object is, wherever it is."""
    return thing.size, thing.color, thing.shape


def some_cells(rng: random.Random) -> list[int]:
    """The cells whose objects a caption places: in half of all captions every one, in the others each by a coin."""
    return [cell for cell in ALL_CELLS if rng.random() < 0.5] if rng.random() < 0.5 else [*ALL_CELLS]
