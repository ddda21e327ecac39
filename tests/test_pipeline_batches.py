"""Batches: which prompt goes with which image, and that each picture is the one made alone."""

import diffusers
import pytest
import torch
from tiny_models import SD_SCHEDULE, distance, edit, noise, picture, sd_pipeline, sdxl_pipeline

CLOSE = 1e-4
PROMPTS = ["make it winter", "red", "turn the sky green"]


@pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])
@pytest.mark.parametrize("scheduler", ["EulerAncestralDiscrete", "DDPM", "LCM", "DPMSolverMultistep"])
def test_each_picture_of_a_batch_is_the_one_made_alone(make, scheduler: str) -> None:
    """Also where the scheduler draws noise at each step: every picture draws from its own generator."""
    pipe = make()
    config = {"algorithm_type": "sde-dpmsolver++"} if scheduler == "DPMSolverMultistep" else {}
    pipe.scheduler = getattr(diffusers, f"{scheduler}Scheduler")(**SD_SCHEDULE, **config)
    images = [picture(i) for i in range(3)]
    batch = edit(pipe, PROMPTS, images, generator=[noise(i) for i in range(3)])
    for i in range(3):
        assert distance(batch[i], edit(pipe, PROMPTS[i], images[i], generator=noise(i))[0]) < CLOSE


def test_ddim_with_eta_draws_from_each_pictures_generator() -> None:
    pipe = sd_pipeline(scheduler=diffusers.DDIMScheduler(**SD_SCHEDULE))
    batch = edit(pipe, PROMPTS[:2], [picture(1), picture(2)], eta=1.0, generator=[noise(1), noise(2)])
    assert distance(batch[1], edit(pipe, PROMPTS[1], picture(2), eta=1.0, generator=noise(2))[0]) < CLOSE


def test_sizes_may_differ_in_a_batch() -> None:
    pipe = sd_pipeline()
    images = [picture(1, 64, 32), picture(2, 40, 48), picture(3, 64, 32)]
    batch = edit(pipe, PROMPTS, images, generator=[noise(i) for i in range(3)], guidance_scale=[7.5, 1.0, 3.0])
    assert isinstance(batch, list)
    for i, scale in enumerate((7.5, 1.0, 3.0)):
        alone = edit(pipe, PROMPTS[i], images[i], generator=noise(i), guidance_scale=scale)[0]
        assert batch[i].shape == alone.shape
        assert distance(batch[i], alone) < CLOSE


def test_one_prompt_for_many_images_and_many_prompts_for_one_image() -> None:
    pipe = sd_pipeline()
    images = [picture(1), picture(2)]
    seeds = [1, 2]
    for prompts, pictures in ((PROMPTS[:1], images), (PROMPTS[0], images), (PROMPTS[:2], images[0])):
        batch = edit(pipe, prompts, pictures, generator=[noise(i) for i in seeds])
        for i in range(2):
            prompt = prompts if isinstance(prompts, str) else prompts[i % len(prompts)]
            image = pictures[i] if isinstance(pictures, list) else pictures
            assert distance(batch[i], edit(pipe, prompt, image, generator=noise(seeds[i]))[0]) < CLOSE


@pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])
def test_copies_of_a_pair_stand_together(make) -> None:
    pipe = make()
    images = [picture(1), picture(2)]
    batch = edit(pipe, PROMPTS[:2], images, num_images_per_prompt=2, generator=[noise(i) for i in range(4)])
    assert len(batch) == 4
    for row in range(4):
        alone = edit(pipe, PROMPTS[row // 2], images[row // 2], generator=noise(row))[0]
        assert distance(batch[row], alone) < CLOSE


def test_negative_prompts_go_with_their_prompts() -> None:
    pipe = sd_pipeline()
    images, negatives = [picture(1), picture(2)], ["summer", "sand"]
    batch = edit(pipe, PROMPTS[:2], images, negative_prompt=negatives, generator=[noise(1), noise(2)])
    for i in range(2):
        alone = edit(pipe, PROMPTS[i], images[i], negative_prompt=negatives[i], generator=noise(i + 1))[0]
        assert distance(batch[i], alone) < CLOSE


def test_a_batch_array_is_a_batch_of_images() -> None:
    pipe = sd_pipeline()
    images = [picture(1), picture(2)]
    generators = [noise(1), noise(2)]
    array = torch.stack([torch.tensor(list(image.getdata())).view(64, 64, 3) for image in images]).to(torch.uint8)
    batch = edit(pipe, "red", array.numpy(), generator=generators)
    assert distance(batch[1], edit(pipe, "red", images[1], generator=noise(2))[0]) < CLOSE


def test_latents_given_for_each_row_or_once() -> None:
    pipe = sd_pipeline(scheduler=diffusers.DDIMScheduler(**SD_SCHEDULE))
    start = torch.randn(2, 4, 16, 16, generator=noise(7))
    images = [picture(1), picture(2)]
    each = edit(pipe, "red", images, latents=start)
    shared = edit(pipe, "red", images, latents=start[:1])
    assert distance(each[0], shared[0]) < CLOSE
    assert distance(each[1], shared[1]) > CLOSE
    assert distance(each[1], edit(pipe, "red", images[1], latents=start[1:])[0]) < CLOSE


def test_image_latents_are_the_pictures_mode() -> None:
    pipe = sd_pipeline()
    rgb = torch.tensor(list(picture().getdata())).view(64, 64, 3).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        mode = pipe.vae.encode(rgb * 2 - 1).latent_dist.mode()
    assert distance(edit(pipe, image_latents=mode), edit(pipe)) < CLOSE
