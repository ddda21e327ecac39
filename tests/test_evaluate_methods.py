"""The methods under one interface: each is what it is called, by itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from evaluate_data import samples
from ip2p import SHAPES_MODEL, InstructPix2PixPipeline
from ip2p.training.evaluate.methods import Function, Ip2p, NoEdit
from ip2p.training.evaluate.pixels import pixel_scores
from ip2p.training.evaluate.samples import Sample
from ip2p.training.evaluate.sdedit import SDEdit
from pairs_models import base_pipeline, xl_pipeline
from PIL import Image
from tiny_models import picture

OF = samples(3)
PICTURES = [sample.picture() for sample in OF]
SEEDS = [3, 4, 5]


def reversed_colors(instruction: str, image: Image.Image, seed: int, strength: float = 1.0) -> Image.Image:
    return image.point(lambda value: int(strength * (255 - value)))


def same(one: list[Image.Image], other: list[Image.Image]) -> bool:
    return all(np.array_equal(np.array(a), np.array(b)) for a, b in zip(one, other, strict=True))


def test_no_edit_gives_the_picture() -> None:
    assert same(NoEdit().edit(OF, PICTURES, {}, SEEDS), PICTURES)


def test_ip2p_is_the_pipeline_itself() -> None:
    made = Ip2p("shapes", {"guidance_scale": 2.0}).edit(OF, PICTURES, {"image_guidance_scale": 1.3, "steps": 3}, SEEDS)
    pipe = InstructPix2PixPipeline.from_pretrained(SHAPES_MODEL)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        [sample.edit_prompt for sample in OF], PICTURES, num_inference_steps=3, guidance_scale=2.0,
        image_guidance_scale=1.3, generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
    ).images  # fmt: skip
    assert same(made, expected)


@pytest.mark.parametrize("what", ["caption", "instruction"])
def test_sdedit_is_diffusers_own(what: Any, tmp_path: Path) -> None:
    base_pipeline().save_pretrained(tmp_path)
    setting = {"strength": 0.6, "steps": 5}
    made = SDEdit(str(tmp_path), {"guidance_scale": 3.0}, what).edit(OF, PICTURES, setting, SEEDS)
    pipe = StableDiffusionImg2ImgPipeline(**base_pipeline().components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    expected = pipe(
        [sample.edited_prompt if what == "caption" else sample.edit_prompt for sample in OF], image=PICTURES,
        strength=0.6, num_inference_steps=5, guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
    ).images  # fmt: skip
    assert same(made, expected)


def test_sdedit_of_sdxl_keeps_the_size(tmp_path: Path) -> None:
    xl_pipeline().save_pretrained(tmp_path)
    method = SDEdit(str(tmp_path), {"guidance_scale": 3.0})
    [made] = method.edit(OF[:1], [picture(1, 50, 33)], {"strength": 0.5, "steps": 4}, [1])
    assert made.size == (50, 33)


def test_sdedit_changes_more_the_stronger_it_is() -> None:
    method = SDEdit("shapes", {"guidance_scale": 2.0})
    of = samples(8)
    before = [sample.picture() for sample in of]
    near, far = (method.edit(of, before, {"strength": each, "steps": 10}, range(8)) for each in (0.1, 1.0))
    changes = [np.mean([pixel_scores(*map(np.array, pair))["l1"] for pair in zip(before, made, strict=True)])
               for made in (near, far)]  # fmt: skip
    assert changes[0] < 0.6 * changes[1]


def test_methods_that_need_captions_say_so() -> None:
    bare = Sample("row 7", "make it winter", "", "", lambda: PICTURES[0])
    with pytest.raises(ValueError, match="SDEdit draws the caption after the edit, and row 7 has none"):
        SDEdit("nowhere", {}).prompt_of(bare)


def test_a_function_of_somebodys_own_is_a_method() -> None:
    method = Function("test_evaluate_methods:reversed_colors")
    assert method.name == "reversed_colors"
    [made] = method.edit(OF[:1], PICTURES[:1], {}, SEEDS[:1])
    assert np.array_equal(np.array(made), 255 - np.array(PICTURES[0]))
    with pytest.raises(ValueError, match="There is no function nothing:here"):
        Function("nothing:here")


def test_a_method_is_another_where_its_weights_are(tmp_path: Path) -> None:
    pipe = InstructPix2PixPipeline.from_pretrained(SHAPES_MODEL)
    pipe.save_pretrained(tmp_path / "one")
    pipe.save_pretrained(tmp_path / "same")
    with torch.no_grad():
        pipe.unet.conv_out.bias += 1
    pipe.save_pretrained(tmp_path / "other")
    one, same_, other = (Ip2p(str(tmp_path / name), {}).identity() for name in ("one", "same", "other"))
    assert one == same_ != other
    assert Ip2p(str(tmp_path / "one"), {"guidance_scale": 3.0}).identity() != one


def test_a_model_that_is_not_there_is_told() -> None:
    for name in ("./nothing", "nothing.safetensors"):
        with pytest.raises(FileNotFoundError, match="There is no model"):
            Ip2p(name, {}).pipe()
