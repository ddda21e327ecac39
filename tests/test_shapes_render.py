"""Drawing: exact colours, exact areas, nothing outside an object's cell."""

import math

import numpy as np
import pytest
from ip2p.training.shapes.render import coverage, render, signed_distance
from ip2p.training.shapes.scenes import BACKGROUNDS, CELL, COLORS, JITTER, SHAPES, SIZES, Thing, make_scene

# Of a shape of radius 1, by school geometry from its definition.
AREAS = {
    "circle": math.pi,
    "square": (2 * 0.86) ** 2,
    "diamond": (2 * 0.76) ** 2,
    "triangle": (0.72 + 1.12) ** 2 / math.sqrt(3),
    "cross": 2 * 2 * 0.68 - 0.68**2,
}
every_shape_and_size = pytest.mark.parametrize(("shape", "size"), [(s, z) for s in SHAPES for z in SIZES])


@every_shape_and_size
def test_an_object_covers_its_exact_area(shape: str, size: str) -> None:
    drawn = coverage(Thing(shape, "red", size, 1, dx=0.3, dy=-0.7))
    assert drawn.sum() == pytest.approx(AREAS[shape] * SIZES[size] ** 2, rel=0.02)
    assert drawn.min() == 0 and drawn.max() == 1 and ((drawn > 0.1) & (drawn < 0.9)).any()


@every_shape_and_size
def test_nothing_is_drawn_outside_the_cell(shape: str, size: str) -> None:
    for dx, dy in ((JITTER, JITTER), (-JITTER, -JITTER)):
        drawn = coverage(Thing(shape, "red", size, 2, dx, dy))
        outside = drawn.sum() - drawn[CELL:, :CELL].sum()
        assert outside < 0.3  # of a pixel: a large triangle's tip may touch the next row


def test_offsets_move_an_object_by_parts_of_a_pixel() -> None:
    x = np.arange(64) + 0.5
    middles = [
        (coverage(Thing("circle", "red", "large", 0, dx)).sum(axis=0) * x).sum()
        / coverage(Thing("circle", "red", "large", 0, dx)).sum()
        for dx in (0.0, 0.25)
    ]
    assert middles == pytest.approx([16.0, 16.25], abs=0.02)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_triangle_points_up_and_the_others_are_symmetric(shape: str) -> None:
    drawn = coverage(Thing(shape, "red", "large", 0))[:CELL, :CELL]
    assert np.allclose(drawn, drawn[:, ::-1])
    assert np.allclose(drawn, drawn[::-1]) == (shape != "triangle")
    assert shape != "triangle" or drawn[:14].sum() < drawn[14:].sum()


def test_colours_are_those_named() -> None:
    for color in COLORS:
        for background in BACKGROUNDS:
            picture = render(make_scene(background, [Thing("cross", color, "small", 3)]))
            assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
            assert tuple(picture[48, 48]) == COLORS[color]
            assert tuple(picture[0, 0]) == tuple(picture[-1, -1]) == BACKGROUNDS[background]


def test_drawing_twice_gives_the_same_picture() -> None:
    scene = make_scene("pink", [Thing("diamond", "blue", "large", 1, 0.4), Thing("circle", "red", "small", 2)])
    assert np.array_equal(render(scene), render(scene))


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="no such shape: 'star'"):
        signed_distance("star", np.zeros(1), np.zeros(1), 8.0)
