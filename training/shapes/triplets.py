"""Triplets of the shapes world that leave places open, and the oracle's verdict on pairs made for them.

Where a caption does not say where an object is, any place is right, and the picture after the edit must have it where
the picture before has it. That is what Prompt-to-Prompt is for.
"""

import random
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from .captions import ALL_CELLS, caption, name
from .edits import KINDS, PLACING, Edit, change
from .oracle import names, read
from .reading import reworded
from .scenes import Scene, is_unambiguous, make_scene, random_scene

PLACED_SHARE = 0.25  # of objects that the edit leaves where they are


@dataclass(frozen=True)
class OpenTriplet:
    """An edit whose captions and instruction place only the objects in some cells."""

    edit: Edit
    placed: tuple[int, ...]


@dataclass(frozen=True)
class Verdict:
    """What the oracle says of a pair."""

    drawn: bool
    """Each picture shows its own caption."""
    right: bool
    """And the second is the first, edited."""


def open_triplet(index: int) -> OpenTriplet:
    """The triplet of a number: the kinds of edits take turns, and no combination held out is in any."""
    rng = random.Random(f"triplet/{index}")
    kind = KINDS[index % len(KINDS)]
    while True:
        source = random_scene(rng)
        placed = {cell for cell in ALL_CELLS if rng.random() < PLACED_SHARE}
        changed = change(kind, source, rng, placed)
        if changed is None:
            continue
        target, instruction, cells = changed
        if target.held_out or not is_unambiguous(target):
            continue
        if kind in PLACING:
            placed |= set(cells)
        before = caption(source, rng, placed)
        after = reworded(before, source, target, rng)
        return OpenTriplet(Edit(kind, source, target, before, instruction, after, cells), tuple(sorted(placed)))


def judge(triplet: OpenTriplet, before: np.ndarray, after: np.ndarray) -> Verdict:
    """The oracle's verdict on a pair of pictures [64, 64, 3] uint8."""
    one, two = read(before), read(after)
    if one is None or two is None:
        return Verdict(False, False)
    drawn = fits(one, triplet.edit.source, triplet.placed) and fits(two, triplet.edit.target, triplet.placed)
    wanted = edited(triplet, one) if drawn else None
    right = wanted is not None and two.background == wanted.background and names(two) == names(wanted)
    return Verdict(drawn, right)


def fits(seen: Scene, told: Scene, placed: tuple[int, ...]) -> bool:
    """Whether a scene is one that a caption of `told` with these places tells."""
    if seen.background != told.background or Counter(map(name, seen.things)) != Counter(map(name, told.things)):
        return False
    where = {name(thing): {other.cell for other in seen.things if name(other) == name(thing)} for thing in told.things}
    return all(thing.cell in where[name(thing)] for thing in told.things if thing.cell in placed)


def edited(triplet: OpenTriplet, seen: Scene) -> Scene | None:
    """A scene that the source's caption tells, after the edit; None where the edit has no place in it."""
    source, target = triplet.edit.source, triplet.edit.target
    gone = [thing for thing in source.things if thing not in target.things]
    come = [thing for thing in target.things if thing not in source.things]
    kept, cells = list(seen.things), {}
    for thing in gone:
        # Colour and shape name an object of a scene.
        found = next(other for other in kept if (other.color, other.shape) == (thing.color, thing.shape))
        kept.remove(found)
        cells[thing.cell] = found.cell
    # What took the cell of what went takes it in this scene too; anything else comes where the instruction says.
    moved = triplet.edit.kind in ("swap", "move")
    come = [thing if moved else replace(thing, cell=cells.get(thing.cell, thing.cell)) for thing in come]
    things = [*kept, *come]
    if len({thing.cell for thing in things}) < len(things):
        return None
    return make_scene(target.background, things)
