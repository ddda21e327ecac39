"""Captions read back by the grammar that told them, and reworded for an edit."""

import random

import pytest
from ip2p.training.shapes.captions import caption, some_cells
from ip2p.training.shapes.reading import read_caption, reworded
from ip2p.training.shapes.scenes import Scene, Thing, make_scene, random_scene
from shapes_grammar import parse_caption

CIRCLE, CROSS = Thing("circle", "red", "small", 0), Thing("cross", "blue", "large", 3)
SCENE = make_scene("white", [CIRCLE, CROSS])
TEXT = "on a white background, a big blue cross in the bottom right and a little red circle"


def test_a_caption_is_read_as_the_scene_it_tells() -> None:
    rng = random.Random(0)
    for index in range(500):
        text = caption(random_scene(rng, held_out=index % 2 == 0), rng, some_cells(rng))
        scene, placed = read_caption(text, rng)
        told = parse_caption(text)
        assert scene.background == told.background
        assert {(t.size, t.color, t.shape, t.cell if t.cell in placed else None) for t in scene.things} == told.objects
        assert len({thing.cell for thing in scene.things}) == len(scene.things)


def test_an_object_whose_place_is_open_may_lie_anywhere_free() -> None:
    scenes = [read_caption(TEXT, random.Random(seed))[0] for seed in range(50)]
    assert {thing.cell for scene in scenes for thing in scene.things if thing.shape == "circle"} == {0, 1, 2}
    assert read_caption(TEXT, random.Random(0))[1] == (3,)


@pytest.mark.parametrize(
    ("things", "background", "expected"),
    [
        ([Thing("circle", "green", "small", 0), CROSS], "white", TEXT.replace("red", "green")),
        ([Thing("square", "red", "small", 0), CROSS], "white", TEXT.replace("circle", "square")),
        ([CIRCLE, CROSS], "pink", TEXT.replace("white", "pink")),
        ([CIRCLE, Thing("cross", "blue", "large", 2)], "white", TEXT.replace("bottom right", "bottom left")),
        ([CIRCLE], "white", "on a white background, a little red circle"),
        ([CROSS], "white", "on a white background, a big blue cross in the bottom right"),
    ],
)
def test_only_what_the_edit_changes_is_reworded(things: list[Thing], background: str, expected: str) -> None:
    assert reworded(TEXT, SCENE, make_scene(background, things), random.Random(0)) == expected


def test_what_is_swapped_keeps_its_words() -> None:
    text = caption(SCENE, random.Random(0))
    swapped = make_scene("white", [Thing("circle", "red", "small", 3), Thing("cross", "blue", "large", 0)])
    exchanged = text.replace("top left", "*").replace("bottom right", "top left").replace("*", "bottom right")
    assert reworded(text, SCENE, swapped, random.Random(0)) == exchanged


def test_what_comes_is_told_anywhere_in_the_sentence_with_its_place() -> None:
    new = Thing("diamond", "purple", "large", 1)
    target = make_scene("white", [CIRCLE, CROSS, new])
    texts = {reworded(TEXT, SCENE, target, random.Random(seed)) for seed in range(50)}
    order = {tuple(sorted(("cross", "circle", "diamond"), key=text.index)) for text in texts}
    assert len(order) == 3 and all("top right" in text for text in texts)
    assert all(len(parse_caption(text).objects) == 3 for text in texts)


def test_a_caption_of_something_else_is_refused() -> None:
    for text in (
        "a photograph of a cat",
        "a small red circle",
        TEXT + ", oil painting",
        "on white",
        TEXT + " on white",
    ):
        with pytest.raises(ValueError, match="no caption of the shapes world"):
            read_caption(text, random.Random(0))


def test_a_scene_that_is_told_wholly_is_read_wholly() -> None:
    def plain(scene: Scene) -> set[tuple[str, str, str, int]]:
        return {(thing.shape, thing.color, thing.size, thing.cell) for thing in scene.things}

    scene, placed = read_caption(caption(SCENE, random.Random(3)), random.Random(0))
    assert plain(scene) == plain(SCENE) and placed == (0, 3)
