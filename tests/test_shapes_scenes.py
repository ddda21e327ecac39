"""The scenes of the shapes world: what is drawn, and what never is."""

import random

from ip2p.training.shapes.scenes import (
    BACKGROUNDS,
    CELL,
    COLORS,
    HELD_OUT,
    JITTER,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    is_unambiguous,
    make_scene,
    random_scene,
)

ALL = {(size, color, shape) for size in SIZES for color in COLORS for shape in SHAPES}


def scenes(count: int, held_out: bool = False, seed: int = 0) -> list[Scene]:
    rng = random.Random(seed)
    return [random_scene(rng, held_out=held_out) for _ in range(count)]


def combinations(drawn: list[Scene]) -> set[tuple[str, str, str]]:
    return {(thing.size, thing.color, thing.shape) for scene in drawn for thing in scene.things}


def test_the_same_seed_draws_the_same_scenes() -> None:
    assert scenes(50, seed=3) == scenes(50, seed=3)
    assert scenes(50, seed=3) != scenes(50, seed=4)


def test_training_draws_every_combination_but_those_held_out() -> None:
    assert combinations(scenes(3000)) == ALL - HELD_OUT


def test_held_out_draws_always_show_a_held_out_combination() -> None:
    drawn = scenes(500, held_out=True)
    assert all(combinations([scene]) & HELD_OUT for scene in drawn)
    assert combinations(drawn) >= HELD_OUT


def test_every_shape_and_colour_is_still_trained_with_others() -> None:
    assert {shape for _, _, shape in HELD_OUT} == set(SHAPES) and len(HELD_OUT) == len(SHAPES)
    assert len({color for _, color, _ in HELD_OUT}) == len(HELD_OUT) and HELD_OUT < ALL


def test_every_attribute_and_count_is_drawn() -> None:
    drawn = scenes(500)
    things = [thing for scene in drawn for thing in scene.things]
    assert {scene.background for scene in drawn} == set(BACKGROUNDS)
    assert {len(scene.things) for scene in drawn} == {1, 2, 3}
    assert {thing.size for thing in things} == set(SIZES) and {thing.cell for thing in things} == {0, 1, 2, 3}


def test_objects_have_cells_of_their_own_and_stay_inside_them() -> None:
    for scene in scenes(500):
        cells = [thing.cell for thing in scene.things]
        assert cells == sorted(set(cells)) and set(scene.free_cells) == {0, 1, 2, 3} - set(cells)
        for thing in scene.things:
            left, top = CELL * (thing.cell % 2), CELL * (thing.cell // 2)
            x, y = thing.center
            assert max(abs(thing.dx), abs(thing.dy)) <= JITTER
            assert left + SIZES[thing.size] < x < left + CELL - SIZES[thing.size]
            assert top + SIZES[thing.size] < y < top + CELL - SIZES[thing.size]


def test_colour_and_shape_name_every_object() -> None:
    assert all(is_unambiguous(scene) for scene in scenes(500))
    twins = [Thing("circle", "red", "small", 0), Thing("circle", "red", "large", 3)]
    assert not is_unambiguous(make_scene("white", twins))


def test_a_scene_is_the_same_in_whatever_order_its_objects_come() -> None:
    things = [Thing("circle", "red", "small", 3), Thing("square", "red", "large", 0)]
    assert make_scene("white", things) == make_scene("white", things[::-1])
