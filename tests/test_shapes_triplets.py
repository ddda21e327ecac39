"""Triplets that leave places open, and what the oracle says of pairs."""

import random
from dataclasses import replace

import pytest
from ip2p.training.shapes.edits import KINDS
from ip2p.training.shapes.render import render
from ip2p.training.shapes.scenes import CELLS, Thing, make_scene
from ip2p.training.shapes.triplets import edited, fits, judge, open_triplet

MANY = [open_triplet(index) for index in range(400)]


def permuted(scene, cells):
    return make_scene(scene.background, [replace(thing, cell=cells[thing.cell]) for thing in scene.things])


def test_kinds_take_turns_and_numbers_name_triplets():
    assert [triplet.edit.kind for triplet in MANY[:8]] == list(KINDS)
    assert open_triplet(7) == MANY[7] != open_triplet(15)
    assert not any(triplet.edit.held_out for triplet in MANY)


def test_captions_are_worded_alike():
    """But for what the edit changes: so many words differ at most, that the rest can be aligned."""
    for triplet in MANY:
        before, after = (
            text.replace(",", "").split() for text in (triplet.edit.original_prompt, triplet.edit.edited_prompt)
        )
        if triplet.edit.kind in ("recolor", "reshape", "resize", "background"):
            assert sum(one != two for one, two in zip(before, after, strict=True)) == 1, triplet
        if triplet.edit.kind in ("add", "remove"):
            longer, shorter = (after, before) if triplet.edit.kind == "add" else (before, after)
            rest = list(longer)
            for word in shorter:
                if word != "and":
                    rest.remove(word)
            assert len(rest) <= 10


def test_captions_leave_places_open_but_not_those_of_the_edit():
    told = [sum(cell in triplet.edit.original_prompt for cell in CELLS) for triplet in MANY]
    assert sum(told) < 0.6 * sum(len(triplet.edit.source.things) for triplet in MANY)
    for triplet in MANY:
        if triplet.edit.kind in ("add", "swap", "move"):
            assert all(
                CELLS[cell] in triplet.edit.original_prompt + triplet.edit.edited_prompt for cell in triplet.edit.cells
            )


def test_instructions_name_objects_by_no_place_that_the_caption_leaves_open():
    for triplet in MANY:
        before, after = triplet.edit.original_prompt, triplet.edit.edited_prompt
        assert all(place in before + after for place in CELLS if place in triplet.edit.edit_prompt), triplet


@pytest.mark.parametrize("number", range(24))
def test_the_edit_itself_is_right_and_the_source_alone_is_not(number):
    edit = MANY[number].edit
    assert judge(MANY[number], render(edit.source), render(edit.target)).right
    assert not judge(MANY[number], render(edit.source), render(edit.source)).right


def test_an_open_place_may_be_any_but_must_be_the_same_in_both():
    judged = 0
    for triplet in MANY:
        source, target = triplet.edit.source, triplet.edit.target
        if triplet.edit.kind != "recolor" or triplet.placed:
            continue
        cells = random.Random(judged).sample(range(4), 4)
        elsewhere = permuted(source, cells), permuted(target, cells)
        assert judge(triplet, *map(render, elsewhere)).right
        if cells != [0, 1, 2, 3] and {t.cell for t in source.things} != {cells[t.cell] for t in source.things}:
            assert judge(triplet, render(source), render(elsewhere[1])) == judge(
                triplet, render(elsewhere[0]), render(target)
            )
            verdict = judge(triplet, render(source), render(elsewhere[1]))
            assert verdict.drawn and not verdict.right
        judged += 1
    assert judged > 10


def test_a_place_that_is_told_must_be_that():
    scene = make_scene("white", [Thing("circle", "red", "small", 0), Thing("cross", "blue", "large", 3)])
    other = make_scene("white", [Thing("circle", "red", "small", 1), Thing("cross", "blue", "large", 3)])
    assert fits(other, scene, ()) and fits(other, scene, (3,)) and not fits(other, scene, (0,))
    assert not fits(replace(other, background="pink"), scene, ())
    assert not fits(make_scene("white", [scene.things[0]]), scene, ())


def test_an_object_cant_come_where_one_is():
    triplet = next(t for t in MANY if t.edit.kind == "add" and len(t.edit.source.things) == 1)
    [cell] = triplet.edit.cells
    taken = replace(triplet.edit.source, things=(replace(triplet.edit.source.things[0], cell=cell),))
    assert edited(triplet, taken) is None
