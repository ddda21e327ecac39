"""The Score node: CLIP's similarities, as the evaluation computes them."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from comfy_graphs import node, scene
from comfy_host import Host, a_host, management  # noqa: F401 - a fixture
from ip2p.training.evaluate.clip_scores import ClipJudge
from ip2p.training.pairs.clip_filter import ClipScorer
from ip2p.training.shapes.render import render
from ip2p.training.shapes.triplets import open_triplet

EDIT = open_triplet(0).edit
AFTER = torch.from_numpy(render(EDIT.target)).float()[None] / 255


def score(host: Host, **inputs: Any) -> tuple:
    captions = {"original_caption": EDIT.original_prompt, "edited_caption": EDIT.edited_prompt}
    given = {"before": scene(), "after": AFTER, "clip_model": "shapes", **captions, **inputs}
    return host.run({"1": node("Ip2pScore", **given)})["1"]


def test_scores_are_the_evaluations(host: Host) -> None:
    judge = ClipJudge(ClipScorer("shapes", None))
    pictures = [np.asarray(render(scene)) for scene in (EDIT.source, EDIT.target)]
    [told] = judge.score(pictures[:1], pictures[1:], [(EDIT.original_prompt, EDIT.edited_prompt)])
    directional, image, caption, rows = score(host)
    assert directional == pytest.approx(told["directional_similarity"], abs=1e-6)
    assert image == pytest.approx(told["image_similarity"], abs=1e-6)
    assert caption == pytest.approx(told["caption_similarity"], abs=1e-6)
    assert json.loads(rows)[0]["image_similarity"] == pytest.approx(image)


def test_one_picture_before_goes_with_all_after_and_the_mean_is_told(host: Host) -> None:
    directional, _, _, rows = score(host, after=torch.cat([AFTER, scene()]))
    each = [row["directional_similarity"] for row in json.loads(rows)]
    assert each[0] > 0.8 and each[1] == 0  # nothing changed
    assert directional == pytest.approx(sum(each) / 2)


def test_pictures_of_one_channel_are_grey(host: Host) -> None:
    grey = scene().mean(-1, keepdim=True)
    assert score(host, before=grey) == score(host, before=torch.cat([grey] * 3, dim=-1))


def test_the_model_is_comfyuis_to_unload(host: Host) -> None:
    before = score(host)[0]
    assert management.loaded_models()
    management.unload_all_models()
    assert score(host)[0] == before


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"clip_model": "nonsense"}, "clip_model is one of ViT-L-14"),
        ({"original_caption": " "}, "Both captions are needed"),
        ({"before": torch.cat([AFTER] * 3), "after": torch.cat([AFTER] * 2)}, "3 pictures before don't go with 2"),
        ({"after": torch.zeros(0, 64, 64, 3)}, "batch of pictures is empty"),
    ],
)
def test_bad_input_is_told(host: Host, inputs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        score(host, **inputs)
