"""Edits of scenes with their instructions: eight kinds, each in several phrasings."""

import random
from collections.abc import Collection
from dataclasses import dataclass, replace

from .captions import ALL_CELLS, SIZE_WORDS, caption, describe
from .scenes import BACKGROUNDS, CELLS, COLORS, SHAPES, SIZES, Scene, Thing, is_unambiguous, make_scene, random_scene

KINDS = ("recolor", "reshape", "resize", "background", "remove", "add", "swap", "move")
PLACING = ("add", "swap", "move")  # where something comes to a place, which is part of the edit

PHRASES: dict[str, tuple[str, ...]] = {
    "recolor": (
        "make {the} {color}",
        "turn {the} {color}",
        "paint {the} {color}",
        "change the color of {the} to {color}",
        "color {the} {color}",
        "{the} should be {color}",
    ),
    "reshape": (
        "turn {the} into a {shape}",
        "make {the} a {shape}",
        "replace {the} with a {shape}",
        "change {the} to a {shape}",
        "{the} should become a {shape}",
    ),
    "background": (
        "make the background {background}",
        "change the background to {background}",
        "turn the background {background}",
        "put it on a {background} background",
        "use a {background} background",
    ),
    "remove": ("remove {the}", "delete {the}", "erase {the}", "take away {the}", "get rid of {the}"),
    "add": ("add {new}", "put {new}", "draw {new}", "place {new}", "insert {new}"),
    "swap": (
        "swap {the} and {other}",
        "swap {the} with {other}",
        "exchange {the} and {other}",
        "switch the places of {the} and {other}",
    ),
    "move": (
        "move {the} to the {place}",
        "put {the} at the {place}",
        "shift {the} to the {place}",
        "bring {the} to the {place}",
    ),
}
RESIZE_PHRASES = {
    "small": ("make {the} smaller", "shrink {the}", "make {the} small", "make {the} little", "reduce {the}"),
    "large": ("make {the} bigger", "enlarge {the}", "make {the} large", "make {the} big", "grow {the}"),
}


@dataclass(frozen=True)
class Edit:
    """A triplet of the shapes world with its ground truth.

    `cells` are those whose content the edit changes; all four for a change of background.
    """

    kind: str
    source: Scene
    target: Scene
    original_prompt: str
    edit_prompt: str
    edited_prompt: str
    cells: tuple[int, ...]

    @property
    def held_out(self) -> bool:
        """Whether the picture before or after shows a combination that no training picture shows."""
        return self.source.held_out or self.target.held_out


def refer(thing: Thing, scene: Scene, rng: random.Random, placed: Collection[int] = ALL_CELLS) -> str:
    """A phrase that names one object of the scene and no other: 'the circle', 'the red circle', …

    By its place only if its cell is in `placed`.
    """
    others = [other for other in scene.things if other is not thing]
    names = [f"the {thing.color} {thing.shape}"]
    if thing.cell in placed:
        names.append(f"the {thing.shape} at the {CELLS[thing.cell]}")
    if all(other.shape != thing.shape for other in others):
        names += [f"the {thing.shape}"] * 2
    if all((other.size, other.shape) != (thing.size, thing.shape) for other in others):
        names.append(f"the {rng.choice(SIZE_WORDS[thing.size])} {thing.shape}")
    if all(other.color != thing.color for other in others):
        names.append(f"the {thing.color} object")
    return rng.choice(names)


def other_than(value: str, choices: list[str], rng: random.Random) -> str:
    """A random choice that differs from `value`."""
    return rng.choice([choice for choice in choices if choice != value])


def change(
    kind: str, source: Scene, rng: random.Random, placed: Collection[int] = ALL_CELLS
) -> tuple[Scene, str, tuple[int, ...]] | None:
    """Apply a random edit of a kind: (scene after, instruction, changed cells), or None where it does not apply.

    The instruction names objects by their place only in cells of `placed`.
    """
    things = list(source.things)
    if kind == "background":
        background = other_than(source.background, list(BACKGROUNDS), rng)
        instruction = rng.choice(PHRASES[kind]).format(background=background)
        return replace(source, background=background), instruction, tuple(range(len(CELLS)))
    if kind == "add":
        if len(things) == 3:
            return None
        new = Thing(
            rng.choice(SHAPES), rng.choice(list(COLORS)), rng.choice(list(SIZES)), rng.choice(source.free_cells)
        )
        instruction = rng.choice(PHRASES[kind]).format(new=describe(new, rng))
        return make_scene(source.background, [*things, new]), instruction, (new.cell,)
    if kind == "swap":
        if len(things) < 2:
            return None
        one, two = rng.sample(things, 2)
        rest = [thing for thing in things if thing not in (one, two)]
        after = [replace(one, cell=two.cell), replace(two, cell=one.cell)]
        instruction = rng.choice(PHRASES[kind]).format(
            the=refer(one, source, rng, placed), other=refer(two, source, rng, placed)
        )
        return make_scene(source.background, rest + after), instruction, (one.cell, two.cell)

    thing = rng.choice(things)
    rest = [other for other in things if other is not thing]
    the = refer(thing, source, rng, placed)
    if kind == "remove":
        if not rest:
            return None
        return make_scene(source.background, rest), rng.choice(PHRASES[kind]).format(the=the), (thing.cell,)
    if kind == "move":
        cell = rng.choice(source.free_cells)
        instruction = rng.choice(PHRASES[kind]).format(the=the, place=CELLS[cell])
        return make_scene(source.background, [*rest, replace(thing, cell=cell)]), instruction, (thing.cell, cell)
    if kind == "recolor":
        changed = replace(thing, color=other_than(thing.color, list(COLORS), rng))
        instruction = rng.choice(PHRASES[kind]).format(the=the, color=changed.color)
    elif kind == "reshape":
        changed = replace(thing, shape=other_than(thing.shape, list(SHAPES), rng))
        instruction = rng.choice(PHRASES[kind]).format(the=the, shape=changed.shape)
    elif kind == "resize":
        changed = replace(thing, size=other_than(thing.size, list(SIZES), rng))
        instruction = rng.choice(RESIZE_PHRASES[changed.size]).format(the=the)
    else:
        raise ValueError(f"no such kind of edit: {kind!r}; there are {', '.join(KINDS)}")
    return make_scene(source.background, [*rest, changed]), instruction, (thing.cell,)


def undo(kind: str, source: Scene, target: Scene, rng: random.Random, placed: Collection[int] = ALL_CELLS) -> str:
    """The instruction that leads back from the scene after an edit; "" where nobody is told where something was.

    The instruction names objects by their place only in cells of `placed`, and where the edit has put something.
    """
    if kind == "background":
        return rng.choice(PHRASES[kind]).format(background=source.background)
    gone = [thing for thing in source.things if thing not in target.things]
    come = [thing for thing in target.things if thing not in source.things]
    if kind == "remove":
        return rng.choice(PHRASES["add"]).format(new=describe(gone[0], rng)) if gone[0].cell in placed else ""
    known = {*placed, *(thing.cell for thing in come)} if kind in PLACING else placed
    the = refer(come[0], target, rng, known)
    if kind == "add":
        return rng.choice(PHRASES["remove"]).format(the=the)
    if kind == "swap":
        return rng.choice(PHRASES[kind]).format(the=the, other=refer(come[1], target, rng, known))
    if kind == "move":
        if gone[0].cell not in placed:
            return ""
        return rng.choice(PHRASES[kind]).format(the=the, place=CELLS[gone[0].cell])
    if kind == "resize":
        return rng.choice(RESIZE_PHRASES[gone[0].size]).format(the=the)
    return rng.choice(PHRASES[kind]).format(the=the, color=gone[0].color, shape=gone[0].shape)


def random_edit(rng: random.Random, kind: str | None = None, held_out: bool = False) -> Edit:
    """A random edit, of a random kind unless one is named.

    `held_out` says whether the picture before or after must show a held-out combination, or neither may.
    """
    kind = kind or rng.choice(KINDS)
    while True:
        source = random_scene(rng, held_out=held_out and rng.random() < 0.5)
        changed = change(kind, source, rng)
        if changed is None:
            continue
        target, instruction, cells = changed
        edit = Edit(kind, source, target, caption(source, rng), instruction, caption(target, rng), cells)
        if is_unambiguous(target) and edit.held_out == held_out:
            return edit
