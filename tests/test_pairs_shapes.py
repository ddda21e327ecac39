"""The image stage on the models inside the package, judged by the oracle."""

import numpy as np
import pytest
from ip2p.training.pairs.candidates import PairTriplet, draw_groups
from ip2p.training.pairs.checkpoint import load_base
from ip2p.training.pairs.clip_filter import ClipScorer, verdicts
from ip2p.training.pairs.maker import PairMaker
from ip2p.training.pairs.maker_settings import MakerSettings
from ip2p.training.shapes.models import SHAPES_BASE, SHAPES_CLIP
from ip2p.training.shapes.oracle import read
from ip2p.training.shapes.triplets import judge, open_triplet

MOST_BYTES = 15_000_000
DRAWING = {"model": "shapes", "clip_model": "shapes", "steps": 10, "guidance": (1.5, 3.0), "seeds": 4, "per_seed": 3}


@pytest.mark.parametrize("folder", [SHAPES_BASE, SHAPES_CLIP])
def test_the_models_are_small_and_hold_no_code(folder):
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert 1_000_000 < sum(file.stat().st_size for file in files) < MOST_BYTES
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".md"}


def test_the_base_is_found_by_name():
    base = load_base("shapes")
    assert base.resolution == 64 and not base.is_xl and base.prediction_type == "v_prediction"


def test_the_clip_is_found_by_name_and_sees_an_edit():
    scorer = ClipScorer("shapes", None)
    before, after = scorer.encode_texts(["a small red circle on white", "a small blue circle on white"])
    assert float(before @ after) < 0.95


@pytest.mark.slow
def test_what_the_filter_keeps_is_right_more_often_than_what_was_drawn():
    maker = PairMaker(MakerSettings(**DRAWING))
    drawn, kept = [], []
    for index in range(32):
        told = open_triplet(index)
        triplet = PairTriplet(told.edit.original_prompt, told.edit.edit_prompt, told.edit.edited_prompt)
        groups = draw_groups(triplet, maker.settings)
        rendered = maker.renderer.render(triplet.original_prompt, triplet.edited_prompt, groups)
        right = [judge(told, group.source, target).right for group in rendered for target in group.targets]
        seeds = [group.seed for group in groups for _ in group.ps]
        words = verdicts(maker.scorer.score(triplet, rendered), seeds, maker.settings)
        drawn += right
        kept += [each for each, word in zip(right, words, strict=True) if word == "kept"]
        assert all(group.source.shape == (64, 64, 3) for group in rendered)
    assert len(kept) > 32
    assert np.mean(drawn) > 0.2
    assert np.mean(kept) > np.mean(drawn) + 0.1


@pytest.mark.slow
def test_prompt_to_prompt_keeps_what_the_edit_leaves():
    """Of pairs whose pictures both show their captions, more have everything else in its place than without it."""
    share = {}
    for method, division in (("none", (6, 1)), ("paper", (2, 3))):
        seeds, per_seed = division
        maker = PairMaker(MakerSettings(**{**DRAWING, "method": method, "seeds": seeds, "per_seed": per_seed}))
        judged = []
        for index in range(0, 64, 2):  # recolor, resize, remove and swap
            told = open_triplet(index)
            triplet = PairTriplet(told.edit.original_prompt, told.edit.edit_prompt, told.edit.edited_prompt)
            groups = draw_groups(triplet, maker.settings)
            for group in maker.renderer.render(triplet.original_prompt, triplet.edited_prompt, groups):
                judged += [judge(told, group.source, target) for target in group.targets]
        share[method] = np.mean([verdict.right for verdict in judged if verdict.drawn])
    assert share["paper"] > share["none"]


def test_pictures_can_be_read():
    triplet = PairTriplet(
        "a large red circle on a white background", "make it blue", "a large blue circle on a white background"
    )
    maker = PairMaker(MakerSettings(**{**DRAWING, "seeds": 3, "per_seed": 1}))
    rendered = maker.renderer.render(
        triplet.original_prompt, triplet.edited_prompt, draw_groups(triplet, maker.settings)
    )
    assert any(read(group.source) is not None for group in rendered)
