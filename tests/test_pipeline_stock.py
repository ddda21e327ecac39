"""With the same weights and settings the pipeline gives what diffusers' own InstructPix2Pix pipelines give."""

import diffusers
import pytest
import torch
from tiny_models import (
    SD_SCHEDULE,
    distance,
    edit,
    feature_extractor,
    image_encoder,
    noise,
    picture,
    sd_pipeline,
    sdxl_pipeline,
    stock,
)

CLOSE = 1e-4
SCHEDULERS = {
    "PNDM": {"skip_prk_steps": True},
    "DDIM": {"clip_sample": False, "set_alpha_to_one": False},
    "DDPM": {},
    "EulerDiscrete": {},
    "EulerAncestralDiscrete": {},
    "DPMSolverMultistep": {},
    "UniPCMultistep": {},
    "HeunDiscrete": {},
    "LCM": {},
}


def scheduler(name: str, **config: object) -> diffusers.SchedulerMixin:
    return getattr(diffusers, f"{name}Scheduler")(**SD_SCHEDULE, **SCHEDULERS[name], **config)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_sd_equals_stock(name: str) -> None:
    pipe = sd_pipeline(scheduler=scheduler(name))
    theirs = stock(pipe)("make it winter", picture(), num_inference_steps=5, generator=noise(), output_type="pt").images
    ours = pipe("make it winter", picture(), num_inference_steps=5, generator=noise(), output_type="pt").images
    assert distance(ours, theirs) < CLOSE


@pytest.mark.parametrize("name", SCHEDULERS)
def test_sdxl_equals_stock(name: str) -> None:
    pipe = sdxl_pipeline(scheduler=scheduler(name))
    settings = {"num_inference_steps": 5, "generator": noise(), "output_type": "pt"}
    theirs = stock(pipe)("make it winter", image=picture(), height=64, width=64, **settings).images
    ours = pipe("make it winter", picture(), **{**settings, "generator": noise()}).images
    assert distance(ours, theirs) < CLOSE


@pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])
def test_defaults_are_stocks(make) -> None:
    """Nothing but prompt, image and seed is given: the steps, the scales and the output are stock's."""
    pipe = make()
    small = picture(width=32, height=32)
    size = {"height": 32, "width": 32} if pipe.is_xl else {}
    theirs = stock(pipe)("make it winter", image=small, generator=noise(), **size).images[0]
    ours = pipe("make it winter", small, generator=noise()).images[0]
    assert ours.size == theirs.size == (32, 32)
    assert distance(ours, theirs) <= 1


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance_scale": 3.0, "image_guidance_scale": 1.2},
        {"negative_prompt": "summer"},
        {"num_images_per_prompt": 2},
        {"latents": torch.randn(1, 4, 16, 16, generator=noise(5))},
        {"eta": 0.7},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_mean_what_they_mean_in_stock(settings: dict) -> None:
    pipe = sd_pipeline(scheduler=scheduler("DDIM"))
    theirs = stock(pipe)(
        "make it winter", picture(), num_inference_steps=3, generator=noise(), output_type="pt", **settings
    ).images
    assert distance(edit(pipe, **settings), theirs) < CLOSE


def test_v_prediction_equals_stock() -> None:
    pipe = sd_pipeline(scheduler=scheduler("DDIM", prediction_type="v_prediction"))
    theirs = stock(pipe)("red", picture(), num_inference_steps=3, generator=noise(), output_type="pt").images
    assert distance(edit(pipe, "red"), theirs) < CLOSE


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance_rescale": 0.7},
        {"negative_prompt": "summer", "negative_prompt_2": "sand"},
        {"prompt_2": "snow"},
        {"original_size": (32, 48), "crops_coords_top_left": (3, 4), "target_size": (64, 32)},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_sdxl_settings_mean_what_they_mean_in_stock(settings: dict) -> None:
    pipe = sdxl_pipeline()
    theirs = stock(pipe)(
        "make it winter",
        image=picture(),
        height=64,
        width=64,
        num_inference_steps=3,
        generator=noise(),
        output_type="pt",
        **settings,
    ).images
    assert distance(edit(pipe, **settings), theirs) < CLOSE


def test_empty_text_that_is_not_zeros() -> None:
    pipe = sdxl_pipeline(force_zeros_for_empty_prompt=False)
    original = stock(pipe)
    original.register_to_config(force_zeros_for_empty_prompt=False)
    theirs = original(
        "red", image=picture(), height=64, width=64, num_inference_steps=3, generator=noise(), output_type="pt"
    ).images
    assert distance(edit(pipe, "red"), theirs) < CLOSE
    assert distance(edit(sdxl_pipeline(), "red"), theirs) > CLOSE


def test_cosxl_edit_scales_the_condition_as_stock_does() -> None:
    pipe = sdxl_pipeline(is_cosxl_edit=True)
    theirs = stock(pipe)(
        "red", image=picture(), height=64, width=64, num_inference_steps=3, generator=noise(), output_type="pt"
    ).images
    assert distance(edit(pipe, "red"), theirs) < CLOSE
    assert distance(edit(sdxl_pipeline(), "red"), theirs) > CLOSE


def test_latent_statistics_equal_stocks() -> None:
    pipe = sdxl_pipeline()
    pipe.vae.register_to_config(latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.1, 0.9, 1.0, 1.2])
    theirs = stock(pipe)(
        "red", image=picture(), height=64, width=64, num_inference_steps=3, generator=noise(), output_type="pt"
    ).images
    assert distance(edit(pipe, "red"), theirs) < CLOSE


@pytest.mark.parametrize("output_type", ["np", "pt", "latent"])
def test_output_types_equal_stocks(output_type: str) -> None:
    pipe = sd_pipeline()
    theirs = stock(pipe)("red", picture(), num_inference_steps=2, generator=noise(), output_type=output_type).images
    ours = edit(pipe, "red", num_inference_steps=2, output_type=output_type)
    assert type(ours) is type(theirs)
    assert ours.shape == theirs.shape
    assert distance(ours, theirs) < CLOSE * max(1, float(abs(theirs).max()))


def test_safety_checker_sees_and_reports_what_stocks_does() -> None:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    config = CLIPConfig(text_config={}, vision_config=image_encoder().config.to_dict(), projection_dim=32)
    checker = StableDiffusionSafetyChecker(config).eval()
    checker.concept_embeds_weights.data.fill_(-2.0)  # every picture is more alike than this: all are unsafe
    pipe = sd_pipeline(safety_checker=checker, feature_extractor=feature_extractor())
    theirs = stock(pipe)("red", picture(), num_inference_steps=2, generator=noise())
    ours = pipe("red", picture(), num_inference_steps=2, generator=noise())
    assert ours.nsfw_content_detected == theirs.nsfw_content_detected == [True]
    assert ours.images[0].getextrema() == theirs.images[0].getextrema() == ((0, 0), (0, 0), (0, 0))
    checker.concept_embeds_weights.data.fill_(2.0)
    checker.special_care_embeds_weights.data.fill_(2.0)
    seen = pipe("red", picture(), num_inference_steps=2, generator=noise())
    assert seen.nsfw_content_detected == [False]
    assert seen.images[0].getextrema() != ((0, 0), (0, 0), (0, 0))
