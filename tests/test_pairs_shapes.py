"""The image stage on the models inside the package, judged by the oracle."""

import pytest
from ip2p.training.pairs.candidates import PairTriplet, draw_groups
from ip2p.training.pairs.checkpoint import load_base
from ip2p.training.pairs.clip_filter import ClipScorer
from ip2p.training.pairs.maker import PairMaker
from ip2p.training.pairs.maker_settings import MakerSettings
from ip2p.training.shapes.models import SHAPES_BASE, SHAPES_CLIP
from ip2p.training.shapes.oracle import read

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


def test_pictures_can_be_read():
    triplet = PairTriplet(
        "a large red circle on a white background", "make it blue", "a large blue circle on a white background"
    )
    maker = PairMaker(MakerSettings(**{**DRAWING, "seeds": 3, "per_seed": 1}))
    rendered = maker.renderer.render(
        triplet.original_prompt, triplet.edited_prompt, draw_groups(triplet, maker.settings)
    )
    assert any(read(group.source) is not None for group in rendered)
