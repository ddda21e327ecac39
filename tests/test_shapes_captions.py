"""Captions: each tells its whole scene, in several ways."""

import random

from ip2p.training.shapes.captions import caption, some_cells
from ip2p.training.shapes.scenes import Scene, Thing, make_scene, random_scene
from shapes_grammar import Named, Told, parse_caption

SCENE = make_scene("grey", [Thing("circle", "red", "small", 0), Thing("cross", "blue", "large", 3)])


def told(scene: Scene) -> Told:
    return Told(scene.background, frozenset(Named(t.size, t.color, t.shape, t.cell) for t in scene.things))


def test_a_caption_tells_its_scene() -> None:
    rng = random.Random(0)
    for i in range(500):
        scene = random_scene(rng, held_out=i % 2 == 0)
        assert parse_caption(caption(scene, rng)) == told(scene)


def test_one_scene_has_many_captions() -> None:
    captions = {caption(SCENE, random.Random(seed)) for seed in range(300)}
    assert len(captions) > 100
    for word in ("little", "big", "in the", "on the", "against", "on grey", "a grey background, a"):
        assert any(word in text for text in captions), word
    assert any(text.startswith("on") for text in captions) and any(text.startswith("a ") for text in captions)
    assert any("circle" in text.split(" and ")[0] for text in captions)
    assert any("cross" in text.split(" and ")[0] for text in captions)


def test_a_caption_follows_its_seed() -> None:
    assert caption(SCENE, random.Random(7)) == caption(SCENE, random.Random(7))


def test_a_caption_may_leave_places_open():
    for index in range(50):
        text = caption(SCENE, random.Random(index), placed=[3])
        assert "bottom right" in text and "top left" not in text
        assert "red circle" in text and "blue cross" in text


def test_half_of_the_captions_trained_on_tell_all_places():
    rng = random.Random(0)
    drawn = [len(some_cells(rng)) for _ in range(4000)]
    assert 0.5 < drawn.count(4) / 4000 < 0.56  # those, and one in sixteen of the others
    assert 0.01 < drawn.count(0) / 4000 < 0.06
