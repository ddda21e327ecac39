"""What is learnt is what the papers say, against plain implementations; and what the student begins with."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler
from distilled_models import distilled
from finetune_data import settings
from ip2p.ip2p_pipeline.distilled import scale_embedding
from ip2p.ip2p_pipeline.text import Text
from ip2p.training.distill.losses import ConsistencyLoss, GuidanceLoss
from ip2p.training.distill.settings import DistilSettings
from ip2p.training.distill.student import distillable, for_few_steps
from ip2p.training.distill.teacher import Teacher
from ip2p.training.finetune.batches import Batch
from ip2p.training.finetune.trainee import Trainee
from test_finetune_loss import batch
from tiny_models import SD_SCHEDULE, TEXT_WIDTH, TEXT_WIDTH_2, distance, edit, sd_pipeline, sdxl_pipeline
from torch import Tensor

DEVICE, FLOAT = torch.device("cpu"), torch.float32
SCALES = torch.tensor([[1.0, 1.0], [7.5, 1.5], [3.0, 1.0], [2.0, 2.0], [9.0, 0.5], [4.0, 3.0]])
BOTH = pytest.mark.parametrize("xl", [False, True], ids=["sd", "sdxl"])
SCHEDULES = {
    "epsilon": {**SD_SCHEDULE, "prediction_type": "epsilon"},
    "v_prediction": {**SD_SCHEDULE, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
}


def given(xl: bool = False) -> Batch:
    g = torch.Generator().manual_seed(2)
    width = TEXT_WIDTH + TEXT_WIDTH_2 if xl else TEXT_WIDTH
    more = {"pooled": torch.randn(6, TEXT_WIDTH_2, generator=g), "time_ids": torch.full((6, 6), 32.0)} if xl else {}
    return batch(text=torch.randn(6, 5, width, generator=g), scales=SCALES, **more)


def empty(xl: bool = False) -> Text:
    g = torch.Generator().manual_seed(3)
    width = TEXT_WIDTH + TEXT_WIDTH_2 if xl else TEXT_WIDTH
    return Text(torch.randn(1, 5, width, generator=g), torch.randn(1, TEXT_WIDTH_2, generator=g) if xl else None)


def unet_of(xl: bool) -> Any:
    return (sdxl_pipeline() if xl else sd_pipeline()).unet


@torch.no_grad()
def guided(unet: Any, noisy: Tensor, told: Batch, nothing: Text) -> Tensor:
    """InstructPix2Pix's guidance, an example and a branch at a time."""
    rows = []
    for i, (s_text, s_image) in enumerate(SCALES):
        e = {}
        for branch in ("full", "image", "uncond"):
            text = told.text[i : i + 1] if branch == "full" else nothing.embeds
            picture = told.condition[i : i + 1] * (branch != "uncond")
            added = None
            if told.pooled is not None:
                pooled = told.pooled[i : i + 1] if branch == "full" else nothing.pooled
                added = {"text_embeds": pooled, "time_ids": told.time_ids[i : i + 1]}
            inputs = torch.cat([noisy[i : i + 1], picture], dim=1)
            e[branch] = unet(inputs, told.timesteps[i], text, added_cond_kwargs=added).sample
        rows.append(e["uncond"] + s_image * (e["image"] - e["uncond"]) + s_text * (e["full"] - e["image"]))
    return torch.cat(rows)


@BOTH
def test_the_teacher_is_guided_at_each_examples_scales(xl: bool) -> None:
    unet, told = unet_of(xl), given(xl)
    found = Teacher(unet, empty(xl), DEVICE, FLOAT)(told.latents, told)
    assert torch.allclose(found, guided(unet, told.latents, told, empty(xl)), atol=1e-3)


@BOTH
def test_a_distilled_teacher_is_asked_once(xl: bool) -> None:
    unet, told = distilled(xl).unet, given(xl)
    seen: list[int] = []
    unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    found = Teacher(unet, empty(xl), DEVICE, FLOAT)(told.latents, told)
    assert seen == [6]
    added = {"text_embeds": told.pooled, "time_ids": told.time_ids} if xl else None
    with torch.no_grad():
        expected = unet(
            torch.cat([told.latents, told.condition], dim=1), told.timesteps, told.text,
            timestep_cond=scale_embedding(unet, SCALES[:, 0], SCALES[:, 1], told.latents), added_cond_kwargs=added,
        ).sample  # fmt: skip
    assert torch.allclose(found, expected, atol=1e-4)


@BOTH
def test_the_students_dials_do_nothing_before_it_learns(xl: bool) -> None:
    pipe = sdxl_pipeline() if xl else sd_pipeline()
    conditional = edit(pipe, guidance_scale=1.0, image_guidance_scale=1.0)
    student = distillable(pipe, (1.0, 14.0), (1.0, 3.0))
    student.set_progress_bar_config(disable=True)
    for scales in ((1.0, 1.0), (9.0, 2.0)):
        found = edit(student, guidance_scale=scales[0], image_guidance_scale=scales[1])
        assert distance(found, conditional) < 1e-4
    assert distillable(student, (5.0, 6.0), (1.0, 2.0)) is student  # it has learnt others


def test_a_student_that_could_not_edit_as_its_teacher_recommends_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--guidance-scales 2 5 leaves out 7\.5, which the model recommends"):
        distillable(sd_pipeline(default_guidance_scale=7.5), (2.0, 5.0), (1.0, 3.0))
    silent = distillable(sd_pipeline(), (2.0, 5.0), (1.0, 3.0))
    assert (silent.recommended("guidance_scale"), silent.recommended("image_guidance_scale")) == (3.5, 1.5)


@pytest.mark.parametrize("prediction", SCHEDULES)
def test_guidance_is_the_squared_error_to_the_guided_prediction(prediction: str) -> None:
    unet, told = unet_of(False), given()
    student = distilled().unet
    loss = GuidanceLoss(SCHEDULES[prediction], settings(), DEVICE, Teacher(unet, empty(), DEVICE, FLOAT))
    found = loss(Trainee(student, None), told)
    noisy = DDIMScheduler(**SCHEDULES[prediction]).add_noise(told.latents, told.noise, told.timesteps)
    scales = scale_embedding(student, SCALES[:, 0], SCALES[:, 1], noisy)
    made = student(torch.cat([noisy, told.condition], dim=1), told.timesteps, told.text, timestep_cond=scales).sample
    expected = (made - guided(unet, noisy, told, empty())).square().flatten(1).mean(1)
    assert torch.allclose(found, expected, rtol=1e-3)
    assert found.requires_grad


@pytest.mark.parametrize("prediction", SCHEDULES)
@pytest.mark.parametrize(("segments", "steps"), [(50, 1), (4, 1), (4, 5)])
def test_consistency_is_that_of_diffusers_own_samplers(prediction: str, segments: int, steps: int) -> None:
    """DDIM's steps by the teacher, and the picture that LCM's sampler takes a prediction for."""
    unet, told, student = unet_of(False), given(), distilled().unet
    config = SCHEDULES[prediction]
    loss = ConsistencyLoss(
        config, settings(), DEVICE, Teacher(unet, empty(), DEVICE, FLOAT), segments, steps, huber_c=0.1
    )
    found = loss(Trainee(student, None), told)
    ddim = DDIMScheduler(**{**config, "set_alpha_to_one": True, "clip_sample": False})
    ddim.set_timesteps(segments * steps)
    lcm = LCMScheduler(**config, timestep_scaling=1e6)  # so that no part of the noisy latents is left

    def picture(noisy: Tensor, timestep: int, row: int) -> Tensor:
        lcm.set_timesteps(1)
        scales = scale_embedding(student, SCALES[row : row + 1, 0], SCALES[row : row + 1, 1], noisy)
        inputs = torch.cat([noisy, told.condition[row : row + 1]], dim=1)
        made = student(inputs, timestep, told.text[row : row + 1], timestep_cond=scales).sample
        lcm._step_index = 0
        return lcm.step(made, timestep, noisy).denoised

    skip = 1000 // segments
    for row, timestep in enumerate(told.timesteps.tolist()):
        begin = (timestep // skip + 1) * skip - 1
        noisy = ddim.add_noise(told.latents[row], told.noise[row], torch.tensor([begin]))[None]
        with torch.no_grad():
            earlier = noisy
            for at in range(begin, begin - skip, -skip // steps):
                now = replace(told, timesteps=torch.full((6,), at))
                answer = guided(unet, earlier.expand(6, -1, -1, -1), now, empty())[row : row + 1]
                earlier = ddim.step(answer, at, earlier).prev_sample
            target = earlier if begin < skip else picture(earlier, begin - skip, row)
            error = picture(noisy, begin, row) - target
        expected = ((error**2 + 0.01).sqrt() - 0.1).mean()
        assert found[row].item() == pytest.approx(expected.item(), rel=2e-3), timestep


def test_segments_divide_the_schedule() -> None:
    for segments, steps in ((3, 1), (4, 3)):
        told = f"divides the schedule's 1,000 timesteps, which {segments} times {steps} does not"
        with pytest.raises(ValueError, match=told):
            ConsistencyLoss(SCHEDULES["epsilon"], settings(), DEVICE, None, segments, steps, 0.1)  # type: ignore[arg-type]


def test_no_gradient_reaches_target_or_teacher() -> None:
    told, student, unet = given(), distilled().unet.requires_grad_(True), unet_of(False)
    teacher = Teacher(unet, empty(), DEVICE, FLOAT)
    calls: list[bool] = []
    student.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    loss = ConsistencyLoss(
        SCHEDULES["epsilon"], settings(), DEVICE, teacher, segments=50, teacher_steps=1, huber_c=0.001
    )
    loss(Trainee(student, None), told).mean().backward()
    assert calls == [False, True]
    assert student.time_embedding.cond_proj.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in unet.parameters())


def test_few_steps_are_sampled_from_pure_noise_on() -> None:
    pipe = sd_pipeline(scheduler=DDIMScheduler(**SCHEDULES["v_prediction"], timestep_spacing="trailing"))
    pipe = for_few_steps(pipe, DistilSettings(segments=20, few_steps=4))
    assert pipe.recommended("num_inference_steps") == 4
    assert pipe.scheduler.config.prediction_type == "v_prediction" and pipe.scheduler.alphas_cumprod[-1] == 0
    for steps, expected in ((4, [999, 749, 499, 249]), (2, [999, 499]), (1, [999])):
        pipe.scheduler.set_timesteps(steps)
        assert pipe.scheduler.timesteps.tolist() == expected
    assert edit(pipe, num_inference_steps=1).isfinite().all()
