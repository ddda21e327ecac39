"""The image stage on the models inside the package, judged by the oracle."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from ip2p.training.pairs.candidates import PairTriplet, draw_groups
from ip2p.training.pairs.checkpoint import load_base
from ip2p.training.pairs.clip_filter import ClipScorer, verdicts
from ip2p.training.pairs.maker import PairMaker
from ip2p.training.pairs.maker_settings import MakerSettings
from ip2p.training.shapes.models import SHAPES_BASE, SHAPES_CLIP
from ip2p.training.shapes.oracle import read
from ip2p.training.shapes.triplets import Verdict, judge, open_triplet

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


@cache
def judged(method: str, per_seed: int) -> tuple[list[Verdict], list[Verdict], list[Verdict]]:
    """The oracle's verdicts on all candidates, on those that the filter keeps, and on sources with another seed's
    targets."""
    maker = PairMaker(MakerSettings(**{**DRAWING, "method": method, "per_seed": per_seed}))
    found: tuple[list[Verdict], list[Verdict], list[Verdict]] = ([], [], [])
    for index in range(24):
        told = open_triplet(index)
        triplet = PairTriplet(told.edit.original_prompt, told.edit.edit_prompt, told.edit.edited_prompt)
        groups = draw_groups(triplet, maker.settings)
        rendered = maker.renderer.render(triplet.original_prompt, triplet.edited_prompt, groups)
        all_ = [judge(told, group.source, target) for group in rendered for target in group.targets]
        seeds = [group.seed for group in groups for _ in group.ps]
        words = verdicts(maker.scorer.score(triplet, rendered), seeds, maker.settings)
        found[0].extend(all_)
        found[1].extend(each for each, word in zip(all_, words, strict=True) if word == "kept")
        found[2].extend(judge(told, one.source, two.targets[0]) for one, two in pairwise(rendered))
    return found


def right(verdicts: list[Verdict]) -> float:
    return float(np.mean([verdict.right for verdict in verdicts]))


@pytest.mark.slow
def test_what_the_filter_keeps_is_right_more_often_than_what_was_drawn() -> None:
    drawn, kept, _ = judged("paper", 3)
    assert len(kept) > 24 and right(drawn) > 0.3
    assert right(kept) > right(drawn) + 0.2


@pytest.mark.slow
def test_pairs_match_by_prompt_to_prompt_and_not_without() -> None:
    drawn, _, apart = judged("paper", 3)
    assert right(drawn) > right(apart) + 0.1


@pytest.mark.slow
def test_full_prompt_to_prompt_leaves_what_the_edit_leaves() -> None:
    """Of pairs whose pictures both show their captions, nearly all have everything else in its place."""
    shown = [verdict for verdict in judged("full", 1)[0] if verdict.drawn]
    assert len(shown) > 24 and right(shown) > 0.9
