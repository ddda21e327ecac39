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
    return sentence(parts, scene.background, rng)


def sentence(parts: list[str], background: str, rng: random.Random) -> str:
    """The caption of objects as they are described, in that order."""
    objects = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    ground = rng.choice(BACKGROUND_PHRASES).format(background)
    return f"{ground}, {objects}" if rng.random() < 0.2 else f"{objects} {ground}"


def matching_captions(
    before: Scene, after: Scene, rng: random.Random, placed: Collection[int] = ALL_CELLS
) -> tuple[str, str]:
    """Captions of the scenes before and after an edit, worded alike but for what the edit changes, as a writer would.

    What is in both, wherever it went, is told in the same place of the sentence and in the same words; of the rest,
    what took an object's cell takes its place in the sentence.
    """
    pairs: list[tuple[Thing | None, Thing | None]] = []
    left = list(after.things)
    for same in (lambda one, two: name(one) == name(two), lambda one, two: one.cell == two.cell):
        for thing in [thing for thing in before.things if all(thing is not one for one, _ in pairs)]:
            found = next((other for other in left if same(thing, other)), None)
            if found is not None:
                left.remove(found)
                pairs.append((thing, found))
    pairs += [(thing, None) for thing in before.things if all(thing is not one for one, _ in pairs)]
    pairs += [(None, thing) for thing in left]
    rng.shuffle(pairs)
    words = [rng.random() for _ in (*pairs, "background")]
    told = []
    for side, scene in enumerate((before, after)):
        parts = [
            describe(each, random.Random(seed), each.cell in placed)
            for pair, seed in zip(pairs, words, strict=False)
            if (each := pair[side]) is not None
        ]
        told.append(sentence(parts, scene.background, random.Random(words[-1])))
    return told[0], told[1]


def name(thing: Thing) -> tuple[str, str, str]:
    """What an object is, wherever it is."""
    return thing.size, thing.color, thing.shape


def some_cells(rng: random.Random) -> list[int]:
    """The cells whose objects a caption places: in half of all captions every one, in the others each by a coin."""
    return [cell for cell in ALL_CELLS if rng.random() < 0.5] if rng.random() < 0.5 else [*ALL_CELLS]
