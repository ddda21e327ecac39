"""Edits: the instruction, read by a parser of its own, does to the scene before exactly what the scene after shows."""

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from ip2p.training.shapes.edits import KINDS, PHRASES, RESIZE_PHRASES, Edit, change, random_edit, undo
from ip2p.training.shapes.render import render
from ip2p.training.shapes.scenes import HELD_OUT, Scene, Thing, is_unambiguous, make_scene
from shapes_grammar import Named, Told, obey, parse_caption

every_kind = pytest.mark.parametrize("kind", KINDS)


def told(scene: Scene) -> Told:
    return Told(scene.background, frozenset(Named(t.size, t.color, t.shape, t.cell) for t in scene.things))


def draws(kind: str | None = None, count: int = 150, seed: int = 0) -> Iterator[Edit]:
    rng = random.Random(seed)
    for i in range(count):
        yield random_edit(rng, kind, held_out=i % 2 == 0)


@every_kind
def test_obeying_the_instruction_gives_the_target(kind: str) -> None:
    for edit in draws(kind):
        assert obey(kind, edit.edit_prompt, told(edit.source)) == told(edit.target) != told(edit.source)


@every_kind
def test_obeying_what_leads_back_gives_the_source(kind: str) -> None:
    rng, inverse = random.Random(1), {"add": "remove", "remove": "add"}.get(kind, kind)
    for edit in draws(kind):
        back = undo(kind, edit.source, edit.target, rng)
        assert obey(inverse, back, told(edit.target)) == told(edit.source)


def test_nothing_leads_back_to_a_place_that_nobody_is_told() -> None:
    for kind in ("remove", "move"):
        for edit in draws(kind, 20):
            there = {thing.cell for thing in edit.source.things if thing in edit.target.things}
            assert undo(kind, edit.source, edit.target, random.Random(0), there) == ""


@every_kind
def test_captions_tell_the_scenes_before_and_after(kind: str) -> None:
    for edit in draws(kind):
        assert parse_caption(edit.original_prompt) == told(edit.source)
        assert parse_caption(edit.edited_prompt) == told(edit.target)


@every_kind
def test_only_the_named_cells_change(kind: str) -> None:
    for edit in draws(kind, 40):
        difference = np.abs(render(edit.source).astype(int) - render(edit.target)).reshape(2, 32, 2, 32, 3)
        by_cell = difference.mean(axis=(1, 3, 4)).flatten() / 255
        for cell in range(4):  # a triangle's tip may touch the next one
            assert by_cell[cell] > 1e-3 if cell in edit.cells else by_cell[cell] < 1e-3


@every_kind
def test_an_edited_object_keeps_its_offset_and_the_others_stay_as_they_are(kind: str) -> None:
    for edit in draws(kind, 100):
        untouched = [thing for thing in edit.source.things if kind == "background" or thing.cell not in edit.cells]
        assert set(untouched) <= set(edit.target.things)
        if kind in ("recolor", "reshape", "resize", "swap", "move"):
            offsets = [sorted((t.dx, t.dy) for t in scene.things) for scene in (edit.source, edit.target)]
            assert offsets[0] == offsets[1]


@every_kind
def test_every_phrasing_is_used(kind: str) -> None:
    phrases = PHRASES.get(kind) or RESIZE_PHRASES["small"] + RESIZE_PHRASES["large"]
    starts = {phrase.split("{")[0] for phrase in phrases}
    instructions = [edit.edit_prompt for edit in draws(kind, 300)]
    assert all(any(text.startswith(start) for text in instructions) for start in starts)


def test_references_come_in_every_form() -> None:
    texts = " | ".join(edit.edit_prompt for edit in draws("remove", 300))
    for form in ("the red object", "the big circle", "the blue cross", "the square at the top left", "the diamond |"):
        assert form in texts, form


def test_training_never_sees_a_held_out_combination() -> None:
    rng = random.Random(1)
    for _ in range(1500):
        edit = random_edit(rng)
        assert not edit.held_out
        assert not {(t.size, t.color, t.shape) for t in edit.source.things + edit.target.things} & HELD_OUT


@every_kind
def test_held_out_edits_show_a_held_out_combination(kind: str) -> None:
    rng = random.Random(2)
    for _ in range(50):
        edit = random_edit(rng, kind, held_out=True)
        assert {(t.size, t.color, t.shape) for t in edit.source.things + edit.target.things} & HELD_OUT
        assert is_unambiguous(edit.source) and is_unambiguous(edit.target)


def test_the_same_seed_gives_the_same_edits() -> None:
    assert list(draws(count=40, seed=5)) == list(draws(count=40, seed=5))
    assert list(draws(count=40, seed=5)) != list(draws(count=40, seed=6))


def test_all_kinds_are_drawn() -> None:
    assert {edit.kind for edit in draws()} == set(KINDS)


def test_kinds_that_cannot_be_done_are_not() -> None:
    one = Thing("circle", "red", "small", 0)
    three = [replace(one, cell=cell, shape=shape) for cell, shape in enumerate(("circle", "square", "cross"))]
    alone, full = make_scene("white", [one]), make_scene("white", three)
    rng = random.Random(0)
    assert change("remove", alone, rng) is None and change("swap", alone, rng) is None
    assert change("add", full, rng) is None


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no such kind of edit: 'rotate'; there are recolor"):
        change("rotate", make_scene("white", [Thing("circle", "red", "small", 0)]), random.Random(0))
