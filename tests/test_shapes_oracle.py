"""The oracle: right on clean and slightly soft pictures, not fooled by near misses, ghosts, smears or stray blobs."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from ip2p.training.shapes.edits import KINDS, random_edit
from ip2p.training.shapes.oracle import change_outside, read, shows, unchanged
from ip2p.training.shapes.render import coverage, render
from ip2p.training.shapes.scenes import BACKGROUNDS, COLORS, SHAPES, SIZES, Scene, Thing, make_scene, random_scene
from PIL import Image, ImageFilter


def scenes(count: int) -> list[Scene]:
    rng = random.Random(0)
    return [random_scene(rng, held_out=i % 2 == 0) for i in range(count)]


def paint(picture: np.ndarray, mask: np.ndarray, color: str) -> np.ndarray:
    """The picture with a colour laid over it, as opaque as the mask says."""
    return np.rint(picture * (1 - mask[..., None]) + mask[..., None] * np.array(COLORS[color])).astype(np.uint8)


def blank(background: str) -> np.ndarray:
    return render(Scene(background, ()))


def accuracy(pictures: list[np.ndarray], drawn: list[Scene]) -> float:
    return sum(shows(picture, scene) for picture, scene in zip(pictures, drawn, strict=True)) / len(drawn)


def test_it_reads_clean_pictures() -> None:
    drawn = scenes(1000)
    assert accuracy([render(scene) for scene in drawn], drawn) >= 0.99


def test_it_reads_noisy_pictures() -> None:
    drawn = scenes(200)
    rng = np.random.default_rng(0)
    noisy = [np.clip(render(scene) + rng.normal(0, 12, (64, 64, 3)), 0, 255).astype(np.uint8) for scene in drawn]
    assert accuracy(noisy, drawn) >= 0.99


@pytest.mark.parametrize("radius", [0.7, 1.2])
def test_it_reads_slightly_blurred_pictures(radius: float) -> None:
    drawn = scenes(150)
    blurred = [np.asarray(Image.fromarray(render(s)).filter(ImageFilter.GaussianBlur(radius))) for s in drawn]
    assert accuracy(blurred, drawn) >= 0.99


def test_it_finds_each_object_within_half_a_pixel() -> None:
    for scene in scenes(50):
        found = read(render(scene))
        assert found is not None
        for thing, seen in zip(scene.things, found.things, strict=True):
            assert (seen.dx, seen.dy) == pytest.approx((thing.dx, thing.dy), abs=0.5)


def near_misses(scene: Scene) -> list[Scene]:
    """Every scene with one thing wrong."""
    missing = [Scene(background, scene.things) for background in BACKGROUNDS if background != scene.background]
    for thing in scene.things:
        rest = [other for other in scene.things if other is not thing]
        wrong = [replace(thing, shape=shape) for shape in SHAPES if shape != thing.shape]
        wrong += [replace(thing, color=color) for color in COLORS if color != thing.color]
        wrong += [replace(thing, size=size) for size in SIZES if size != thing.size]
        wrong += [replace(thing, cell=cell) for cell in scene.free_cells]
        missing += [make_scene(scene.background, [*rest, each]) for each in wrong]
        missing.append(make_scene(scene.background, rest))
    added = [Thing(scene.things[0].shape, scene.things[0].color, "small", cell) for cell in scene.free_cells]
    return missing + [make_scene(scene.background, [*scene.things, new]) for new in added]


def test_it_rejects_every_scene_with_one_thing_wrong() -> None:
    for scene in scenes(16):
        wrong = near_misses(scene)
        assert len(wrong) >= 5 + 4 + 5 + 1 + 1 + 1
        assert not any(shows(render(each), scene) for each in wrong)


def test_it_rejects_half_transparent_objects() -> None:
    thing = Thing("circle", "red", "large", 0)
    for background, color in itertools.product(BACKGROUNDS, COLORS):
        assert read(paint(blank(background), coverage(thing), color)) is not None
        assert read(paint(blank(background), coverage(thing) * 0.5, color)) is None, (background, color)


def test_it_rejects_ghosts_in_cells_that_should_be_empty() -> None:
    for scene in scenes(30):
        ghost = Thing("square", "green", "small", scene.free_cells[0])
        assert read(paint(render(scene), coverage(ghost) * 0.5, "green")) is None


@pytest.mark.parametrize("size", SIZES)
def test_it_rejects_objects_between_two_shapes(size: str) -> None:
    for one, two in itertools.combinations(SHAPES, 2):
        mask = (coverage(Thing(one, "blue", size, 1, 0.3)) + coverage(Thing(two, "blue", size, 1, 0.3))) / 2
        assert read(paint(blank("white"), mask, "blue")) is None, (one, two)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_rejects_objects_between_two_sizes(shape: str) -> None:
    mask = (coverage(Thing(shape, "blue", "small", 1)) + coverage(Thing(shape, "blue", "large", 1))) / 2
    assert read(paint(blank("white"), mask, "blue")) is None


def test_it_rejects_smears() -> None:
    for scene in scenes(30):
        picture = render(scene).astype(np.float64)
        smeared = np.mean([np.roll(picture, shift, axis=1) for shift in range(-6, 7)], axis=0)
        assert not shows(smeared.astype(np.uint8), scene)


def test_it_rejects_stray_blobs_in_any_cell() -> None:
    y, x = np.mgrid[0:64, 0:64] + 0.5
    for i, scene in enumerate(scenes(40)):
        cell = i % 4
        # In the cell's corner, beside its object if it has one.
        blob = np.hypot(x - 32 * (cell % 2) - 4.5, y - 32 * (cell // 2) - 4.5) < 3.2
        for color in COLORS:
            assert read(paint(render(scene), blob.astype(float), color)) is None, (scene, cell, color)


def test_it_rejects_objects_of_two_colours() -> None:
    thing = Thing("circle", "red", "small", 0)
    left = coverage(thing) * (np.arange(64) < 16)
    for one, two in itertools.permutations(COLORS, 2):
        whole = paint(blank("white"), coverage(thing), one)
        assert read(paint(whole, left, two)) is None, (one, two)


def test_it_rejects_pictures_of_nothing_known() -> None:
    rng = np.random.default_rng(0)
    assert read(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) is None
    assert read(np.full((64, 64, 3), (0, 255, 0), dtype=np.uint8)) is None


def test_an_empty_scene_is_read_as_empty() -> None:
    assert read(blank("cyan")) == Scene("cyan", ())


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_s_own_pictures_agree_where_it_changes_nothing(kind: str) -> None:
    for index in range(20):
        edit = random_edit(random.Random(index), kind)
        before, after, where = render(edit.source), render(edit.target), unchanged(edit.source, edit.target)
        assert change_outside(before, after, where) == 0
        assert change_outside(before, after, ~where) > 0.01
        assert where.mean() > (0.01 if kind == "background" else 0.3)


def test_a_change_elsewhere_counts() -> None:
    edit = random_edit(random.Random(0), "recolor")
    before, where = render(edit.source), unchanged(edit.source, edit.target)
    assert change_outside(before, 255 - before, where) > 0.03
    shifted = np.roll(before, 2, axis=1)
    assert change_outside(before, shifted, where | True) > change_outside(before, before, where)


def test_an_object_may_lie_anywhere_in_its_cell_that_a_scene_s_does() -> None:
    source = Scene("white", (Thing("circle", "red", "small", 0),))
    for dx, dy in itertools.product((-1.5, 1.5), repeat=2):
        added = [Thing("square", "blue", "large", 3, *offset) for offset in ((dx, dy), (-dx, -dy))]
        one, other = (make_scene("white", [*source.things, thing]) for thing in added)
        assert change_outside(render(one), render(other), unchanged(source, one)) == 0
