"""What goes through the U-Net, step by step, and what the guidance options do to the picture."""

from itertools import product

import diffusers
import pytest
import torch
from ip2p.ip2p_pipeline.denoising import alpha_bar, last_steps, noised
from ip2p.ip2p_pipeline.guidance import AdaptiveProjection
from tiny_models import SD_SCHEDULE, counted_samples, distance, edit, noise, picture, sd_pipeline, sdxl_pipeline

CLOSE = 1e-4


@pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])
@pytest.mark.parametrize(
    ("text", "image", "samples"),
    [(7.5, 1.5, 3), (7.5, 1.0, 2), (2.0, 2.0, 2), (0.0, 1.5, 2), (1.0, 1.0, 1), (0.0, 0.0, 1), (0.0, 1.0, 1)],
)
def test_only_the_branches_with_a_weight_are_computed(make, text: float, image: float, samples: int) -> None:
    pipe = make()
    with counted_samples(pipe) as counts:
        edit(pipe, guidance_scale=text, image_guidance_scale=image)
    assert counts == [samples] * 3


@pytest.mark.parametrize(("text", "image"), [(7.5, 1.0), (2.0, 2.0), (0.0, 1.5), (1.0, 1.0), (0.0, 1.0), (0.6, 0.3)])
def test_a_dropped_branch_changes_nothing(text: float, image: float) -> None:
    """The full three-branch formula, forced by a neighbour that needs all three, gives the same picture."""
    pipe = sd_pipeline()
    alone = edit(pipe, guidance_scale=text, image_guidance_scale=image)
    pictures = edit(
        pipe,
        image=[picture(), picture(1)],
        guidance_scale=[text, 7.5],
        image_guidance_scale=[image, 1.5],
        generator=[noise(), noise()],
    )
    assert distance(pictures[0], alone[0]) < CLOSE


def test_intervals_change_the_branches_within_a_run() -> None:
    pipe = sd_pipeline()
    with counted_samples(pipe) as counts:
        edit(pipe, num_inference_steps=8, guidance_interval=(0.25, 0.75), image_guidance_interval=(0.5, 1.0))
    # Both at 1; the text alone; both; the image alone, with its text at 1.
    assert counts == [1, 1, 2, 2, 3, 3, 3, 3]


def test_an_interval_never_splits_a_step_of_order_two() -> None:
    pipe = sd_pipeline(scheduler=diffusers.HeunDiscreteScheduler(**SD_SCHEDULE))
    with counted_samples(pipe) as counts:
        edit(pipe, num_inference_steps=5, guidance_interval=(0, 0.5), image_guidance_interval=(0, 0.5))
    assert counts == [3] * 6 + [1] * 3  # three of the five steps; the last has no second evaluation


def test_a_batch_of_mixed_scales_computes_what_any_image_needs() -> None:
    pipe = sd_pipeline()
    images = [picture(1), picture(2)]
    with counted_samples(pipe) as counts:
        edit(pipe, "red", images, guidance_scale=[7.5, 3.0], image_guidance_scale=[1.0, 1.0])
        edit(pipe, "red", images, guidance_scale=[7.5, 3.0], image_guidance_scale=[1.0, 1.5])
    assert counts == [4, 4, 4, 6, 6, 6]


def test_each_image_of_a_batch_has_its_own_scales() -> None:
    pipe = sd_pipeline()
    images, scales = [picture(1), picture(2), picture(3)], [(7.5, 1.5), (3.0, 1.0), (0.5, 0.7)]
    batch = edit(
        pipe,
        "red",
        images,
        guidance_scale=[text for text, _ in scales],
        image_guidance_scale=torch.tensor([image for _, image in scales]),
        generator=[noise(), noise(), noise()],
    )
    for result, image, (text, s_image) in zip(batch, images, scales, strict=True):
        assert distance(result, edit(pipe, "red", image, guidance_scale=text, image_guidance_scale=s_image)[0]) < CLOSE


def test_scales_per_image_hold_for_each_of_its_copies() -> None:
    pipe = sd_pipeline()
    copies = edit(
        pipe,
        "red",
        [picture(1), picture(2)],
        guidance_scale=[7.5, 2.0],
        num_images_per_prompt=2,
        generator=[noise(i) for i in range(4)],
    )
    assert distance(copies[3], edit(pipe, "red", picture(2), guidance_scale=2.0, generator=noise(3))[0]) < CLOSE


def test_refinements_at_their_neutral_values_change_nothing() -> None:
    pipe = sd_pipeline()
    neutral = {"eta": 1.0, "norm_threshold": 0.0, "momentum": 0.0}
    refined = edit(
        pipe,
        guidance_interval=(0, 1),
        image_guidance_interval=(0, 1),
        guidance_schedule="constant",
        guidance_rescale=0.0,
        adaptive_projection=neutral,
    )
    assert torch.equal(refined, edit(pipe))
    for off in (False, None, AdaptiveProjection(**neutral)):
        assert torch.equal(edit(pipe, adaptive_projection=off), refined)
    strong = AdaptiveProjection(eta=0.2, norm_threshold=1.0)
    as_dict = {"eta": 0.2, "norm_threshold": 1.0}
    assert torch.equal(edit(pipe, adaptive_projection=strong), edit(pipe, adaptive_projection=as_dict))
    assert distance(edit(pipe, adaptive_projection=strong), refined) > CLOSE


@pytest.mark.parametrize("make", [sd_pipeline, sdxl_pipeline])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("scheduler", ["DDIM", "EulerDiscrete", "DPMSolverMultistep", "HeunDiscrete"])
def test_adaptive_projection_runs_with_every_kind_of_scheduler(make, prediction_type: str, scheduler: str) -> None:
    pipe = make()
    cls = getattr(diffusers, f"{scheduler}Scheduler")
    pipe.scheduler = cls.from_config(pipe.scheduler.config, prediction_type=prediction_type)
    projected = edit(pipe, guidance_scale=15.0, adaptive_projection=True)
    assert projected.isfinite().all()
    assert distance(projected, edit(pipe, guidance_scale=15.0)) > CLOSE
    # Projected on nothing, the guided prediction keeps its parallel part; with eta=1 alone it is plain guidance.
    plain = {"eta": 1.0, "norm_threshold": 1e9, "momentum": 0.0}
    assert distance(edit(pipe, adaptive_projection=plain), edit(pipe)) < 1e-3


def test_alpha_bar_is_the_noise_level_of_the_model_input() -> None:
    """Projection reads the scaled model input as √ᾱ·x0 + √(1−ᾱ)·ε, whatever the scheduler's own convention."""
    x0, eps = torch.full((1, 4, 2, 2), 2.0), torch.full((1, 4, 2, 2), -1.0)
    names = "DDIM EulerDiscrete EulerAncestralDiscrete DPMSolverMultistep UniPCMultistep HeunDiscrete KDPM2Discrete LCM"
    for name, strength in product(names.split(), (1.0, 0.5)):
        scheduler = getattr(diffusers, f"{name}Scheduler")(**SD_SCHEDULE)
        scheduler.set_timesteps(10)
        for t in last_steps(scheduler, scheduler.timesteps, strength)[:3]:
            noisy = noised(scheduler, x0, eps, t)
            sample = scheduler.scale_model_input(noisy, t)
            level = alpha_bar(scheduler, t)
            torch.testing.assert_close(sample, level**0.5 * x0 + (1 - level) ** 0.5 * eps, atol=2e-3, rtol=0)
            scheduler.step(eps, t, noisy)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedules_change_the_result(schedule: str) -> None:
    pipe = sd_pipeline()
    assert distance(edit(pipe, guidance_schedule=schedule), edit(pipe)) > CLOSE
    neutral = {"guidance_scale": 1.0, "image_guidance_scale": 1.0}
    assert torch.equal(edit(pipe, guidance_schedule=schedule, **neutral), edit(pipe, **neutral))


def test_the_checkpoint_recommends_its_own_scales() -> None:
    plain = sd_pipeline()
    pipe = sd_pipeline(default_guidance_scale=3.0, default_image_guidance_scale=1.0, default_num_inference_steps=2)
    settings = {"num_inference_steps": None}
    with counted_samples(pipe) as counts:
        recommended = edit(pipe, **settings)
    assert counts == [2, 2]
    same = edit(plain, guidance_scale=3.0, image_guidance_scale=1.0, num_inference_steps=2)
    assert distance(recommended, same) < CLOSE
    overridden = edit(pipe, guidance_scale=7.5, image_guidance_scale=1.5, num_inference_steps=2)
    assert distance(overridden, edit(plain, num_inference_steps=2)) < CLOSE
