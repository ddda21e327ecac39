"""Each flaw found in diffusers' InstructPix2Pix pipelines: ours is free of it.

The stock half shows that the flaw is there, in the diffusers that was examined. A later one may mend it, which must not
fail our tests: there what is seen is only recorded, as a property of the test (`--junitxml` shows it).
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from ip2p import InstructPix2PixPipeline
from PIL import Image
from tiny_models import (
    counted_samples,
    distance,
    edit,
    noise,
    picture,
    quiet,
    sd_pipeline,
    sdxl_pipeline,
    stock,
)

CLOSE = 1e-4
EXAMINED = "0.42.1"


@pytest.fixture
def stock_fails(record_property: Callable[[str, object], None]) -> Callable[[Callable[[], bool]], None]:
    """Record whether the stock pipeline still has the flaw: `right` raises, or says no."""

    def record(right: Callable[[], bool]) -> None:
        try:
            outcome = "mended" if right() else "fails: wrong result"
        except Exception as error:  # stock's own crash is the flaw
            outcome = f"fails: {type(error).__name__}"
        record_property("stock", outcome)
        if diffusers.__version__ == EXAMINED:
            assert outcome != "mended"

    return record


def theirs(pipe: InstructPix2PixPipeline, prompt: Any = "make it winter", image: Any = None, **call: Any) -> Any:
    settings = {"num_inference_steps": 3, "generator": noise(), "output_type": "pt", **call}
    return stock(pipe)(prompt, image=picture() if image is None else image, **settings).images


def alpha_picture() -> Image.Image:
    rgba = picture().convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize((64, 64)))
    return rgba


def test_image_guidance_below_one_keeps_the_text_guidance(stock_fails) -> None:
    pipe = sd_pipeline()
    low = {"guidance_scale": 7.5, "image_guidance_scale": 0.9}
    none = {"guidance_scale": 1.0, "image_guidance_scale": 1.0}
    assert distance(edit(pipe, **low), edit(pipe, **none)) > 0.01
    stock_fails(lambda: distance(theirs(pipe, **low), theirs(pipe, **none)) > 0.01)


def test_text_guidance_below_one_weakens_the_instruction(stock_fails) -> None:
    pipe = sd_pipeline()
    ignored = {"guidance_scale": 0.0, "image_guidance_scale": 1.5}
    assert distance(edit(pipe, "winter", **ignored), edit(pipe, "summer", **ignored)) == 0
    assert distance(edit(pipe, "winter"), edit(pipe, "summer")) > 0.01
    stock_fails(lambda: distance(theirs(pipe, "winter", **ignored), theirs(pipe, "summer", **ignored)) == 0)


@pytest.mark.parametrize("scales", [(7.5, 1.0), (1.5, 1.5)])
def test_branches_of_weight_zero_are_not_computed(scales: tuple[float, float], stock_fails) -> None:
    pipe = sd_pipeline()
    settings = {"guidance_scale": scales[0], "image_guidance_scale": scales[1]}
    with counted_samples(pipe) as ours:
        result = edit(pipe, **settings)
    assert ours == [2, 2, 2]
    assert distance(result, theirs(pipe, **settings)) < CLOSE  # and nothing is lost by it

    def stock_computes_two() -> bool:
        with counted_samples(pipe) as counts:
            theirs(pipe, **settings)
        return counts == [2, 2, 2]

    stock_fails(stock_computes_two)


def test_rgba_is_a_picture_not_latents(stock_fails) -> None:
    pipe = sd_pipeline()
    assert edit(pipe, image=alpha_picture()).shape == (1, 3, 64, 64)
    stock_fails(lambda: theirs(pipe, image=alpha_picture()).shape == (1, 3, 64, 64))


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "I;16", "CMYK"])
def test_every_mode_is_read(mode: str, stock_fails) -> None:
    pipe = sd_pipeline()
    other = picture().convert("L").convert(mode) if mode in ("1", "LA") else picture().convert(mode.split(";")[0])
    if mode == "I;16":
        other = Image.fromarray(np.asarray(picture().convert("L")).astype(np.uint16) * 257)
    same = other.convert("RGB") if mode != "I;16" else picture().convert("L").convert("RGB")
    assert distance(edit(pipe, image=other), edit(pipe, image=same)) < CLOSE
    stock_fails(lambda: distance(theirs(pipe, image=other), theirs(pipe, image=same)) < CLOSE)


def test_exif_orientation_is_applied(tmp_path: Path, stock_fails) -> None:
    pipe = sd_pipeline()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(width=64, height=32).save(tmp_path / "turned.png", exif=exif)
    turned = Image.open(tmp_path / "turned.png")
    upright = picture(width=64, height=32).transpose(Image.Transpose.ROTATE_270)
    assert distance(edit(pipe, image=turned), edit(pipe, image=upright)) < CLOSE
    stock_fails(lambda: theirs(pipe, image=turned).shape == theirs(pipe, image=upright).shape)


def test_uint8_arrays_are_scaled(stock_fails) -> None:
    pipe = sd_pipeline()
    array = np.asarray(picture())
    assert distance(edit(pipe, image=array), edit(pipe)) < CLOSE
    stock_fails(lambda: distance(theirs(pipe, image=array), theirs(pipe)) < CLOSE)


def test_image_i_goes_with_prompt_i(stock_fails) -> None:
    pipe = sd_pipeline()
    pictures, prompts = [picture(1), picture(2)], ["make it winter", "make it red"]
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)  # draws no noise of its own
    start = torch.randn(1, 4, 16, 16, generator=noise())

    def paired(run: Callable[..., Any]) -> bool:
        batch = run(pipe, prompts, pictures, num_images_per_prompt=2, latents=start.repeat(4, 1, 1, 1))
        singles = [run(pipe, prompt, image, latents=start) for prompt, image in zip(prompts, pictures, strict=True)]
        return all(distance(batch[row], singles[row // 2][0]) < 1e-3 for row in range(4))

    assert paired(edit)
    stock_fails(lambda: paired(theirs))


def test_one_prompt_edits_two_images(stock_fails) -> None:
    pipe = sd_pipeline()
    assert len(edit(pipe, "red", [picture(1), picture(2)])) == 2
    stock_fails(lambda: len(theirs(pipe, "red", [picture(1), picture(2)])) == 2)


def test_mixed_sizes_keep_their_sizes(stock_fails) -> None:
    pipe = sd_pipeline()
    images = [picture(1, 64, 32), picture(2, 32, 48)]
    want = [(3, 32, 64), (3, 48, 32)]
    assert [tuple(image.shape) for image in edit(pipe, "red", images)] == want
    stock_fails(lambda: [tuple(image.shape) for image in theirs(pipe, ["red", "red"], images)] == want)


def test_the_size_that_goes_in_comes_out(stock_fails) -> None:
    pipe = sd_pipeline()
    odd = picture(width=61, height=45)
    assert edit(pipe, image=odd).shape == (1, 3, 45, 61)
    stock_fails(lambda: theirs(pipe, image=odd).shape == (1, 3, 45, 61))


def test_sdxl_does_not_square_its_input(stock_fails) -> None:
    pipe = sdxl_pipeline()
    wide = picture(width=64, height=32)
    assert edit(pipe, image=wide).shape == (1, 3, 32, 64)
    stock_fails(lambda: theirs(pipe, image=wide).shape == (1, 3, 32, 64))


def test_one_negative_prompt_serves_a_list_of_prompts(stock_fails) -> None:
    pipe = sd_pipeline()
    call = {"negative_prompt": "summer"}
    prompts, images = ["red", "blue"], [picture(1), picture(2)]
    assert len(edit(pipe, prompts, images, **call)) == 2
    stock_fails(lambda: len(theirs(pipe, prompts, images, **call)) == 2)


def test_negative_prompt_in_one_branch_only(stock_fails) -> None:
    pipe = sd_pipeline()
    results = [
        edit(pipe, negative_prompt="summer", negative_prompt_branches=branches)
        for branches in (["uncond"], ["image"], ["uncond", "image"], [])
    ]
    assert distance(results[3], edit(pipe)) == 0
    assert all(distance(a, b) > CLOSE for i, a in enumerate(results) for b in results[:i])
    uncond_only = {"negative_prompt": "summer", "negative_prompt_branches": ["uncond"]}
    stock_fails(lambda: distance(theirs(pipe, **uncond_only), results[0]) < CLOSE)


def test_what_stock_lacks_is_there(record_property: Callable[[str, object], None]) -> None:
    wanted = {
        "mask_image",
        "resolution",
        "guidance_interval",
        "image_guidance_interval",
        "guidance_rescale",
        "timesteps",
        "sigmas",
        "strength",
        "clip_skip",
        "image_latents",
    }
    pipe = sd_pipeline()
    assert wanted <= set(inspect.signature(pipe.__call__).parameters)
    assert hasattr(type(pipe), "interrupt")
    record_property("stock lacks", sorted(wanted - set(inspect.signature(stock(pipe).__call__).parameters)))


def test_sdxl_has_callbacks_on_step_end_and_ip_adapters(record_property: Callable[[str, object], None]) -> None:
    pipe = sdxl_pipeline()
    steps: list[int] = []
    edit(pipe, callback_on_step_end=lambda _pipe, step, _time, tensors: steps.append(step) or tensors)
    assert steps == [0, 1, 2]
    assert hasattr(pipe, "load_ip_adapter")
    original = stock(pipe)
    record_property("stock has callbacks", "callback_on_step_end" in inspect.signature(original.__call__).parameters)
    record_property("stock has ip adapters", hasattr(original, "load_ip_adapter"))


def test_is_cosxl_edit_survives_save_and_load(tmp_path: Path, stock_fails) -> None:
    pipe = sdxl_pipeline(is_cosxl_edit=True)
    pipe.save_pretrained(tmp_path / "ours")
    again = quiet(InstructPix2PixPipeline.from_pretrained(tmp_path / "ours"))
    assert again.config.is_cosxl_edit
    assert distance(edit(again), edit(pipe)) < CLOSE

    def stock_keeps_it() -> bool:
        stock(pipe).save_pretrained(tmp_path / "stock")
        return bool(type(stock(pipe)).from_pretrained(tmp_path / "stock").is_cosxl_edit)

    stock_fails(stock_keeps_it)
