"""Captions of scenes, from a grammar with paraphrases."""

import random

from .scenes import CELLS, Scene, Thing

SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
PLACE_PHRASES = ("at the {}", "in the {}", "on the {}")
BACKGROUND_PHRASES = ("on a {} background", "against a {} background", "on {}")


def describe(thing: Thing, rng: random.Random) -> str:
    """One object with everything the oracle checks: 'a small red circle at the top left'."""
    size = rng.choice(SIZE_WORDS[thing.size])
    place = rng.choice(PLACE_PHRASES).format(CELLS[thing.cell])
    return f"a {size} {thing.color} {thing.shape} {place}"


def caption(scene: Scene, rng: random.Random) -> str:
    """A sentence that determines the scene up to its objects' offsets."""
    parts = [describe(thing, rng) for thing in scene.things]
    rng.shuffle(parts)
    objects = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    background = rng.choice(BACKGROUND_PHRASES).format(scene.background)
    return f"{background}, {objects}" if rng.random() < 0.2 else f"{objects} {background}"
