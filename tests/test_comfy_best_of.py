"""The Best of N node: what CLIP ranks best comes first."""

import json
from typing import Any

import pytest
import torch
from comfy_graphs import QUICK, load, node, scene
from comfy_host import Host, a_host  # noqa: F401 - a fixture
from ip2p.training.shapes.triplets import open_triplet


def best_of(host: Host, **inputs: Any) -> tuple:
    told = open_triplet(0).edit
    given = {"image": scene(), "instruction": told.edit_prompt, "tries": 4, "keep": 2, "clip_model": "shapes"}
    captions = {"original_caption": told.original_prompt, "edited_caption": told.edited_prompt}
    graph = {"1": load(), "2": node("Ip2pBestOf", model=["1", 0], **{**given, **QUICK, **captions, **inputs})}
    return host.run(graph)["2"]


def test_the_best_come_first_with_their_scores(host: Host) -> None:
    best, ranked, scores, settings = best_of(host, seed=9)
    rows = json.loads(scores)
    assert best.shape == (2, 64, 64, 3) and ranked.shape == (4, 64, 64, 3)
    assert torch.equal(best, ranked[:2])
    directions = [row["directional_similarity"] for row in rows]
    alike = [direction for row, direction in zip(rows, directions, strict=True) if row["image_similarity"] >= 0.3]
    assert alike == sorted(alike, reverse=True) and len(alike) > 1
    assert sorted(row["seed"] for row in rows) == [9, 10, 11, 12]
    assert {key: json.loads(settings)[key] for key in ("seed", "guidance_scale")} == {
        key: rows[0][key] for key in ("seed", "guidance_scale")
    }


def test_each_can_be_made_again_from_its_row(host: Host) -> None:
    _, ranked, scores, _ = best_of(host)
    row = json.loads(scores)[1]
    told = {name: row[name] for name in ("seed", "guidance_scale", "image_guidance_scale")}
    edit = node(
        "Ip2pEdit", model=["1", 0], image=scene(), instruction=open_triplet(0).edit.edit_prompt, steps=3, **told
    )
    assert torch.equal(host.run({"1": load(), "2": edit})["2"][0][0], ranked[1])


def test_of_a_batch_with_masks_the_first_picture_and_mask_are_taken(host: Host) -> None:
    first, second = torch.zeros(1, 64, 64), torch.ones(1, 64, 64)
    first[:, :32] = 1
    batch = best_of(host, image=torch.cat([scene(), scene(1)]), mask=torch.cat([first, second]), tries=1)
    assert torch.equal(batch[0], best_of(host, mask=first, tries=1)[0])


def test_seeds_go_on_at_0_after_the_last(host: Host) -> None:
    _, _, scores, _ = best_of(host, seed=2**64 - 1, tries=2)
    assert sorted(row["seed"] for row in json.loads(scores)) == [0, 2**64 - 1]


def test_captions_may_be_left_out(host: Host) -> None:
    best, *_ = best_of(host, original_caption="", edited_caption="", keep=1, tries=2)
    assert best.shape == (1, 64, 64, 3)


def test_an_empty_instruction_is_told(host: Host) -> None:
    with pytest.raises(ValueError, match="instruction is empty"):
        best_of(host, instruction="")
