"""The part of one triplet."""

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from ip2p.training.pairs.candidates import PairTriplet, draw_groups
from ip2p.training.pairs.features import PART, SCORES
from ip2p.training.pairs.maker import PairMaker
from PIL import Image
from tiny_runs import TRIPLETS, tiny_settings

pytest_plugins = ["pairs_fixtures"]


def open_picture(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))


@pytest.fixture(scope="module")
def maker(models: dict[str, str]) -> PairMaker:
    return PairMaker(tiny_settings(models))


def test_a_part_has_every_candidate_and_the_winners_pictures(maker: PairMaker) -> None:
    part = maker.make(5, TRIPLETS[0])
    assert part.schema.equals(PART)
    rows = part.to_pylist()
    assert [row["number"] for row in rows] == list(range(6))
    assert {row["triplet"] for row in rows} == {5} and {row["triplet_id"] for row in rows} == {TRIPLETS[0].id}
    drawn = draw_groups(TRIPLETS[0], maker.settings)
    assert [(row["seed"], row["p"], row["guidance_scale"]) for row in rows] == [
        (group.seed, p, group.guidance_scale) for group in drawn for p in group.ps
    ]
    assert all(-1 <= row[name] <= 1 for row in rows for name in SCORES)
    kept = [row for row in rows if row["verdict"] == "kept"]
    assert len(kept) == 2 and len({row["seed"] for row in kept}) == 2
    for row in rows:
        assert (row["original_image"] is not None) == (row["edited_image"] is not None) == (row in kept)
        assert row["mask"] is None and row["problem"] is None
    for row in kept:
        for name in ("original_image", "edited_image"):
            picture = open_picture(row[name])
            assert picture.format == "JPEG" and picture.size == (64, 64) and picture.mode == "RGB"
            assert picture.layer[0][1:3] == picture.layer[1][1:3]  # type: ignore[attr-defined]  # colours at full size


def test_a_part_depends_on_its_triplet_only(maker: PairMaker, models: dict[str, str]) -> None:
    first = maker.make(0, TRIPLETS[0])
    maker.make(1, TRIPLETS[1])
    again = PairMaker(maker.settings).make(7, TRIPLETS[0])
    assert again.drop(["triplet"]).equals(first.drop(["triplet"]))
    other = PairMaker(tiny_settings(models, seed=1)).make(0, TRIPLETS[0])
    assert not set(other["seed"].to_pylist()) & set(first["seed"].to_pylist())


def test_png_keeps_every_pixel(maker: PairMaker, models: dict[str, str]) -> None:
    settings = tiny_settings(models, image_format="png")
    kept = next(row for row in PairMaker(settings).make(0, TRIPLETS[0]).to_pylist() if row["verdict"] == "kept")
    groups = draw_groups(TRIPLETS[0], settings)
    rendered = maker.renderer.render(TRIPLETS[0].original_prompt, TRIPLETS[0].edited_prompt, groups)
    group, which = rendered[kept["number"] // 2], kept["number"] % 2
    assert np.array_equal(np.asarray(open_picture(kept["original_image"])), group.source)
    assert np.array_equal(np.asarray(open_picture(kept["edited_image"])), group.targets[which])


def test_masks_are_kept_where_there_are_some(models: dict[str, str]) -> None:
    maker = PairMaker(tiny_settings(models, method="full", local_blend=True, self_resolution=4))
    kept = [row for row in maker.make(0, TRIPLETS[0]).to_pylist() if row["verdict"] == "kept"]
    assert kept
    for row in kept:
        mask = open_picture(row["mask"])
        assert mask.format == "PNG" and mask.mode == "L" and set(np.unique(np.asarray(mask))) <= {0, 255}


def test_kinds_named_are_drawn_by_paper(maker: PairMaker, models: dict[str, str]) -> None:
    mixed = PairMaker(tiny_settings(models, method="full", paper_kinds=["swap"]))
    full = PairMaker(tiny_settings(models, method="full"))
    swap, add = (replace(TRIPLETS[0], kind=kind) for kind in ("swap", "add"))
    assert mixed.make(0, swap).equals(maker.make(0, swap)) and not mixed.make(0, swap).equals(full.make(0, swap))
    assert mixed.make(0, add).equals(full.make(0, add))


@pytest.mark.parametrize("name", ["original_prompt", "edit_prompt", "edited_prompt"])
def test_a_triplet_without_a_text_fails_alone(maker: PairMaker, name: str) -> None:
    texts = {"original_prompt": "a red circle", "edit_prompt": "make it blue", "edited_prompt": "a blue circle"}
    (row,) = maker.make(3, PairTriplet(**{**texts, name: " "})).to_pylist()
    assert (row["triplet"], row["number"], row["verdict"]) == (3, -1, "failed")
    assert row["problem"] == f"The triplet has no {name}."


def test_a_picture_that_is_not_finite_fails_its_triplet_alone(
    models: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = PairMaker(tiny_settings(models))
    before = maker.make(0, TRIPLETS[0])
    bias = maker.renderer.base.pipe.vae.decoder.conv_out.bias
    with torch.no_grad():
        bias[0] = torch.nan
    (row,) = maker.make(1, TRIPLETS[1]).to_pylist()
    assert row["verdict"] == "failed" and "not finite" in row["problem"]
    with torch.no_grad():
        bias[0] = 0.0
    assert maker.make(0, TRIPLETS[0]).num_rows == before.num_rows


def bright(pictures: Sequence[np.ndarray]) -> list[bool]:
    """An NSFW check by the first pixel."""
    return [bool(picture[0, 0].sum() % 2) for picture in pictures]


def test_unsafe_pictures_are_in_no_pair(models: dict[str, str]) -> None:
    settings = tiny_settings(models, nsfw_check=f"{__name__}:bright", seeds=6, max_per_triplet=6, image_format="png")
    rows = [row for place in range(3) for row in PairMaker(settings).make(place, TRIPLETS[place]).to_pylist()]
    assert {"kept", "nsfw"} <= {row["verdict"] for row in rows}
    for row in rows:
        if row["verdict"] == "kept":
            pictures = [np.asarray(open_picture(row[name])) for name in ("original_image", "edited_image")]
            assert bright(pictures) == [False, False]


def test_too_little_memory_stops_the_run_with_a_sentence(maker: PairMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    def render(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(maker.renderer, "render", render)
    with pytest.raises(MemoryError, match="too little memory on cpu for --batch-size 16"):
        maker.make(0, TRIPLETS[0])


def test_a_device_that_is_not_there_gets_a_sentence(models: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="--device nonsense can't be used here"):
        PairMaker(tiny_settings(models, device="nonsense")).make(0, TRIPLETS[0])
