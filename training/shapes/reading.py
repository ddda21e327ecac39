"""Captions of the grammar read back, and changed in no more words than an edit changes."""

import random
import re

from .captions import ALL_CELLS, SIZE_WORDS, describe, joined, name
from .scenes import BACKGROUNDS, CELLS, COLORS, SHAPES, Scene, Thing, is_unambiguous, make_scene

SIZE_OF = {word: size for size, words in SIZE_WORDS.items() for word in words}
OBJECT = re.compile(
    rf"a ({'|'.join(SIZE_OF)}) ({'|'.join(COLORS)}) ({'|'.join(SHAPES)})(?: (at|in|on) the ({'|'.join(CELLS)}))?"
)
BACKGROUND = re.compile(rf"(?:on|against) a ({'|'.join(BACKGROUNDS)}) background|on ({'|'.join(BACKGROUNDS)})")
BETWEEN = re.compile("(?:, | and | )*")


def read_caption(text: str, rng: random.Random) -> tuple[Scene, tuple[int, ...]]:
    """A scene that a caption of the grammar tells, and the cells whose objects it places.

    Objects lie in the middle of their cells, those that the caption does not place in any that are free.

    Raises ValueError for any other text.
    """
    found = OBJECT.findall(text)
    grounds = BACKGROUND.findall(text)
    rest = OBJECT.sub("", BACKGROUND.sub("", text))
    placed = sorted(CELLS.index(cell) for *_, cell in found if cell)
    if len(grounds) == 1 and 1 <= len(found) <= 3 and len(set(placed)) == len(placed) and BETWEEN.fullmatch(rest):
        free = [cell for cell in ALL_CELLS if cell not in placed]
        rng.shuffle(free)
        things = [
            Thing(shape, color, SIZE_OF[size], CELLS.index(cell) if cell else free.pop())
            for size, color, shape, _, cell in found
        ]
        scene = make_scene("".join(grounds[0]), things)
        if is_unambiguous(scene):
            return scene, tuple(placed)
    raise ValueError(f"{text!r} is no caption of the shapes world, the only ones that the shapes backend can edit.")


def reworded(text: str, source: Scene, target: Scene, rng: random.Random) -> str:
    """A caption of `source` made to tell `target`, in its own words but for what differs, as a writer would.

    What is in both keeps its place in the sentence, wherever it went; of the rest, what took an object's cell takes
    its place in the sentence too. What is new is told with its place.
    """
    parts, told = [], []
    for match in OBJECT.finditer(text):
        size, color, shape, where, cell = match.groups()
        before = next(thing for thing in source.things if (thing.color, thing.shape) == (color, shape))
        after = heir(before, source, target)
        if after is not None:
            told.append(after)
            size = size if after.size == before.size else rng.choice(SIZE_WORDS[after.size])
            place = f" {where} the {CELLS[after.cell]}" if cell else ""
            parts.append(f"a {size} {after.color} {after.shape}{place}")
    for thing in target.things:
        if thing not in told:
            parts.insert(rng.randrange(len(parts) + 1), describe(thing, rng))
    ground = next(BACKGROUND.finditer(text))
    words = ground[0].replace(source.background, target.background)
    return joined(parts, words, ground_first=ground.start() == 0)


def heir(thing: Thing, source: Scene, target: Scene) -> Thing | None:
    """What an object of `source` became: itself wherever it is, or what is new in its cell; None where it is gone."""
    known = [name(each) for each in source.things]
    for each in target.things:
        if name(each) == name(thing) or (each.cell == thing.cell and name(each) not in known):
            return each
    return None
