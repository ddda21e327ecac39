"""Bad input is told in one sentence, and so is what a text encoder can't read."""

import logging
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from ip2p import InstructPix2PixPipeline
from tiny_models import distance, edit, noise, picture, sd_pipeline, sdxl_components, sdxl_pipeline, unet

BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompt": None}, "Give the instruction"),
    ({"prompt_embeds": torch.zeros(1, 77, 32)}, "Give the instruction"),
    ({"prompt": 7}, "prompt is a text"),
    ({"prompt": []}, "prompt is a text"),
    ({"prompt": ["red", None]}, "prompt is a text"),
    ({"image": None}, "Give the picture"),
    ({"image": []}, "no picture to edit"),
    ({"image": "nowhere.png"}, "There is no picture at"),
    ({"image": object()}, "A picture is"),
    ({"image": torch.full((3, 8, 8), float("nan"))}, "NaN"),
    ({"image_latents": torch.zeros(1, 4, 8, 8)}, "Give the picture"),
    ({"image": None, "image_latents": torch.zeros(1, 3, 8, 8)}, "image_latents has shape"),
    ({"latents": torch.zeros(1, 4, 8, 8)}, "latents has shape"),
    ({"guidance_scale": float("nan")}, "guidance_scale"),
    ({"image_guidance_scale": float("nan")}, "image_guidance_scale"),
    ({"guidance_scale": -1.0}, "at least 0"),
    ({"guidance_scale": [1.0, 2.0, 3.0]}, "guidance_scale is a list of 3"),
    ({"guidance_interval": (0.5, 0.2)}, "guidance_interval"),
    ({"guidance_schedule": "wave"}, "guidance_schedule"),
    ({"num_inference_steps": 0}, "num_inference_steps"),
    ({"num_inference_steps": 2.5}, "num_inference_steps"),
    ({"num_images_per_prompt": 0}, "num_images_per_prompt"),
    ({"output_type": "jpeg"}, "output_type"),
    ({"alpha": "drop"}, "alpha"),
    ({"fit": "crop"}, "fit is"),
    ({"resolution": 0}, "resolution"),
    ({"resolution": "40"}, "resolution is a whole number"),
    ({"strength": 0.0}, "strength is a number above 0"),
    ({"strength": 1.5}, "strength is a number above 0"),
    ({"strength": "all"}, "strength is a number above 0"),
    ({"generator": 5}, "generator is a torch.Generator"),
    ({"background": None}, "background is a colour"),
    ({"background": (0, 0, 300)}, "background is a colour"),
    ({"timesteps": []}, "timesteps is empty"),
    ({"sigmas": []}, "sigmas is empty"),
    ({"guidance_rescale": "a"}, "guidance_rescale must be"),
    ({"guidance_interval": ("a", "b")}, "guidance_interval must be"),
    ({"adaptive_projection": {"foo": 1}}, "adaptive_projection is True, False or a dict of"),
    ({"adaptive_projection": {"eta": "x"}}, "projection's eta must be a number"),
    ({"adaptive_projection": 1.0}, "adaptive_projection is True, False or a dict of"),
    ({"adaptive_stop": 1.0}, "adaptive_stop must be above 0 and below 1"),
    ({"adaptive_stop": "soon"}, "adaptive_stop must be above 0 and below 1"),
    ({"relevance_mask": {"foo": 1}}, "relevance_mask is True, False or a dict of"),
    ({"relevance_mask": 0.5}, "relevance_mask is True, False or a dict of"),
    ({"relevance_mask": {"threshold": 0}}, "relevance_mask's threshold must be finite and above 0"),
    ({"relevance_mask": {"threshold": "low"}}, "relevance_mask's threshold must be a number"),
    ({"relevance_mask": {"noise_level": 1.0}}, "relevance_mask's noise_level must be above 0 and below 1"),
    ({"relevance_mask": {"against": "noise"}}, 'against must be "picture" or "image"'),
    ({"image": None, "image_latents": torch.zeros(1, 4, 8, 8), "relevance_mask": True}, "relevance_mask needs"),
    ({"latents": torch.zeros(2, 4, 16, 16)}, "latents holds 2 entries for 1"),
    ({"image": None, "image_latents": torch.zeros(0, 4, 8, 8)}, "image_latents is empty"),
    ({"mask_image": torch.zeros(2, 1, 64, 64)}, "give a list"),
    ({"mask_image": picture(width=32, height=32)}, "mask"),
    ({"mask_image": [picture(), picture()]}, "mask_image is a list of 2"),
    ({"image": None, "image_latents": torch.zeros(1, 4, 8, 8), "mask_image": picture()}, "mask_image needs"),
    ({"generator": [noise(), noise()]}, "generator is a list of 2"),
    ({"prompt": ["a", "b", "c"], "image": [picture(), picture()]}, "3 prompts and 2 images"),
    ({"negative_prompt": ["a", "b"]}, "2 negative texts"),
    ({"negative_prompt_branches": ["full"]}, "negative_prompt_branches"),
    ({"callback_on_step_end_tensor_inputs": ["weights"]}, "A callback can be given"),
    ({"ip_adapter_image_embeds": [torch.zeros(3, 1, 32)]}, "1 entries for 0"),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_bad_arguments_are_told_in_a_sentence(arguments: dict[str, Any], sentence: str) -> None:
    call = {"prompt": "red", "image": picture(), "num_inference_steps": 1, "generator": noise(), **arguments}
    with pytest.raises((ValueError, TypeError, OSError), match=sentence) as error:
        sd_pipeline()(**call)
    assert "\n" not in str(error.value)


def test_an_empty_instruction_is_the_empty_text() -> None:
    pipe = sd_pipeline()
    assert distance(edit(pipe, "", guidance_scale=7.5), edit(pipe, "", guidance_scale=1.5)) < 1e-4


def test_sdxl_wants_pooled_embeddings_too() -> None:
    with pytest.raises(ValueError, match="pooled_prompt_embeds"):
        edit(sdxl_pipeline(), None, prompt_embeds=torch.zeros(1, 77, 64))


def test_without_a_text_encoder_only_embeddings_will_do() -> None:
    pipe = sd_pipeline(text_encoder=None, tokenizer=None)
    with pytest.raises(ValueError, match="no text encoder"):
        edit(pipe)


def test_what_the_text_encoder_cannot_read_is_told(caplog: pytest.LogCaptureFixture) -> None:
    pipe = sd_pipeline()
    instruction = "x " * 75 + "theremainder"
    with caplog.at_level(logging.WARNING):
        long = edit(pipe, instruction)
    assert "theremainder" in caplog.text
    caplog.clear()
    assert torch.equal(edit(pipe, "x " * 75), long)
    assert caplog.text == ""


def test_a_text_to_image_checkpoint_is_told_apart() -> None:
    with pytest.raises(ValueError, match="text-to-image checkpoint"):
        sd_pipeline(unet=unet(in_channels=4))
    with pytest.raises(ValueError, match="takes 9 channels"):
        sd_pipeline(unet=unet(in_channels=9))


@pytest.mark.parametrize("name", ["unet", "vae", "scheduler"])
def test_a_missing_component_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"no {name}"):
        sd_pipeline(**{name: None})


def test_a_safety_checker_needs_its_eyes() -> None:
    with pytest.raises(ValueError, match="feature_extractor"):
        sd_pipeline(safety_checker=torch.nn.Identity())


def test_an_autoencoder_with_other_latents_is_refused() -> None:
    blocks = {"encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8)}
    tiny = AutoencoderTiny(num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1), **blocks)
    pipe = sd_pipeline(vae=tiny)
    with pytest.raises(ValueError, match="image_latents"):
        edit(pipe)
    assert edit(pipe, image_latents=torch.zeros(1, 4, 8, 8)).isfinite().all()


def test_from_pipe_refuses_what_is_not_instruct_pix2pix() -> None:
    from diffusers import StableDiffusionXLPipeline

    components = {**sdxl_components(), "unet": unet(in_channels=4)}
    with pytest.raises(ValueError, match="text-to-image"):
        InstructPix2PixPipeline.from_pipe(StableDiffusionXLPipeline(**components))
