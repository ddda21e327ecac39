"""The relevance mask: the formula, its edges, what it leaves as it was, and that it goes with everything else."""

import diffusers
import numpy as np
import pytest
import torch
from ip2p.ip2p_pipeline.relevance import RelevanceMask, asked_at
from tiny_models import SD_SCHEDULE, counted_samples, distance, edit, noise, picture, sd_pipeline, sdxl_pipeline

CLOSE = 1e-4
EVERYWHERE, NOWHERE = {"threshold": 1e-9}, {"threshold": 1e9}
SOMEWHERE = {"threshold": 4.0}  # untrained models propose much
MAKES = pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])


def pixels(image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


@MAKES
def test_where_all_is_relevant_it_is_the_plain_edit_to_the_bit(make) -> None:
    pipe = make()
    plain = edit(pipe)
    for off in (False, None):
        assert torch.equal(edit(pipe, relevance_mask=off), plain)
    for against in ("picture", "image"):
        assert torch.equal(edit(pipe, relevance_mask={**EVERYWHERE, "against": against}), plain)


@MAKES
def test_where_nothing_is_relevant_the_picture_comes_back(make) -> None:
    image = picture(width=61, height=45)
    assert torch.equal(edit(make(), image=image, relevance_mask=NOWHERE, resolution=40)[0], pixels(image))


@MAKES
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("against", ["picture", "image"])
def test_the_mask_is_where_the_instruction_makes_a_difference(make, prediction_type: str, against: str) -> None:
    """The formula in plain steps, by the U-Net called here: the pixels that it finds irrelevant come back."""
    pipe = make()
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, prediction_type=prediction_type)
    unit = torch.randn(1, 4, 16, 16, generator=noise(3))
    mode = pipe.vae.encode(2 * pixels(picture())[None] - 1).latent_dist.mode()
    clean = mode * pipe.vae.config.scaling_factor
    t = 700
    alpha, sigma = pipe.scheduler.alphas_cumprod[t] ** 0.5, (1 - pipe.scheduler.alphas_cumprod[t]) ** 0.5
    noisy = alpha * clean + sigma * unit

    def x0(instruction: str) -> torch.Tensor:
        embeds, pooled = pipe.encode_prompt(instruction)
        if pipe.is_xl and not instruction:
            embeds, pooled = torch.zeros_like(embeds), torch.zeros_like(pooled)
        ids = torch.tensor([[64, 64, 0, 0, 64, 64]], dtype=torch.float32)
        more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}} if pipe.is_xl else {}
        output = pipe.unet(torch.cat([noisy, mode], 1), t, embeds, **more).sample
        if prediction_type == "epsilon":
            return (noisy - sigma * output) / alpha
        return alpha * noisy - sigma * output if prediction_type == "v_prediction" else output

    with torch.no_grad():
        unedited = clean if against == "picture" else x0("")
        differs = (x0("red") - unedited).abs().mean(1)[0]
    threshold = differs.quantile(0.9).item()
    want = np.zeros((16, 16), dtype=bool)
    for y, x in zip(*np.nonzero(differs.numpy() >= threshold), strict=True):
        want[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = True
    assert 0.1 < want.mean() < 0.95

    settings = {"threshold": threshold, "against": against}
    result = edit(pipe, "red", latents=unit, relevance_mask=settings)[0]
    kept = (result == pixels(picture())).all(0).view(16, 4, 16, 4).all(3).all(1).numpy()
    grown = np.zeros_like(want)  # bilinear: half a latent of a mask's neighbour is mixed
    for y, x in zip(*np.nonzero(want), strict=True):
        grown[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = True
    assert not kept[want].any()
    assert kept[~grown].all()
    latents = edit(pipe, "red", latents=unit, relevance_mask=settings, output_type="latent")[0]
    assert np.array_equal(((latents - clean[0]).abs().amax(0) > 1e-5).numpy(), want)


def test_it_costs_one_sample_more_or_two() -> None:
    pipe = sd_pipeline()
    for settings, first in (({}, 1), ({"against": "image"}, 2)):
        with counted_samples(pipe) as counts:
            edit(pipe, relevance_mask=settings, image_guidance_scale=1.0)
        assert counts == [first, 2, 2, 2]


@MAKES
def test_each_picture_of_a_batch_has_its_own_mask(make) -> None:
    pipe = make()
    images = [picture(1, 64, 32), picture(2, 40, 48), picture(3, 64, 32)]
    prompts = ["make it winter", "red", "turn the sky green"]
    settings = {"relevance_mask": SOMEWHERE}
    batch = edit(pipe, prompts, images, generator=[noise(i) for i in range(3)], **settings)
    for i in range(3):
        alone = edit(pipe, prompts[i], images[i], generator=noise(i), **settings)[0]
        assert distance(batch[i], alone) < CLOSE
        assert 0.02 < (alone == pixels(images[i])).all(0).float().mean() < 0.98


def test_with_a_drawn_mask_the_edit_stays_in_both() -> None:
    pipe = sd_pipeline()
    mask = torch.zeros(64, 64)
    mask[:, 32:] = 1
    drawn = edit(pipe, mask_image=mask)[0]
    both = edit(pipe, mask_image=mask, relevance_mask=SOMEWHERE)[0]
    before = pixels(picture())
    assert torch.equal(both[..., :32], before[..., :32])
    assert not torch.equal(both, drawn)
    assert (both == before).all(0).sum() > (drawn == before).all(0).sum()
    assert torch.equal(edit(pipe, mask_image=mask, relevance_mask=EVERYWHERE)[0], drawn)


def test_transparency_is_kept() -> None:
    rgba = picture().convert("RGBA")
    rgba.putalpha(128)
    result = edit(sd_pipeline(), image=rgba, alpha="keep", relevance_mask=NOWHERE, output_type="pil")[0]
    assert np.array_equal(np.asarray(result), np.asarray(rgba))


@pytest.mark.parametrize(
    "scheduler", ["DDIM", "UniPCMultistep", "LCM", "EulerAncestralDiscrete", "HeunDiscrete", "DPMSolverMultistep"]
)
def test_it_leaves_every_kind_of_scheduler_as_it_was(scheduler: str) -> None:
    pipe = sd_pipeline()
    pipe.scheduler = getattr(diffusers, f"{scheduler}Scheduler")(**SD_SCHEDULE)
    plain = edit(pipe)
    assert torch.equal(edit(pipe, relevance_mask=EVERYWHERE), plain)
    assert torch.equal(edit(pipe, relevance_mask=NOWHERE)[0], pixels(picture()))


def test_a_scheduler_without_the_levels_of_training_is_told() -> None:
    pipe = sd_pipeline(scheduler=diffusers.EDMEulerScheduler(prediction_type="v_prediction"))
    with pytest.raises(ValueError, match="alphas_cumprod, which EDMEulerScheduler lacks"):
        edit(pipe, relevance_mask=True)


def test_true_is_the_usual_one() -> None:
    pipe = sd_pipeline()
    usual = edit(pipe, relevance_mask=RelevanceMask())
    assert torch.equal(edit(pipe, relevance_mask=True), usual)
    assert torch.equal(edit(pipe, relevance_mask={}), usual)


def test_a_model_of_few_steps_is_asked_at_the_nearest_timestep_that_it_has_learnt() -> None:
    assert asked_at(diffusers.DDIMScheduler(**SD_SCHEDULE), 0.7) == 700
    few = diffusers.LCMScheduler(**SD_SCHEDULE, original_inference_steps=4)
    assert [asked_at(few, level) for level in (0.1, 0.7, 0.9)] == [249, 749, 999]
