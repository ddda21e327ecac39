"""Captions: each tells its whole scene, in several ways."""

import random

from ip2p.training.shapes.captions import caption
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
