"""What a callback may change, for how long it holds, and what it is told when it can't be."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.callbacks import SDCFGCutoffCallback, SDXLCFGCutoffCallback
from tiny_models import counted_samples, distance, edit, noise, picture, sd_pipeline, sdxl_pipeline

CLOSE = 1e-4


def after(step: int, **changes: Any) -> Any:
    """A callback that sets attributes of the pipeline once a step is done."""

    def change(pipe: Any, i: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if i == step:
            for name, value in changes.items():
                setattr(pipe, name, value)
        return tensors

    return change


def test_a_changed_scale_holds_for_each_size_from_its_own_step_on() -> None:
    pipe = sd_pipeline()
    images = [picture(1), picture(2, 40, 48)]
    settings = {"callback_on_step_end": after(1, _guidance_scale=1.0), "num_inference_steps": 4}
    batch = edit(pipe, "red", images, generator=[noise(1), noise(2)], **settings)
    for i, image in enumerate(images):
        assert distance(batch[i], edit(pipe, "red", image, generator=noise(i + 1), **settings)[0]) < CLOSE
    assert distance(batch[0], edit(pipe, "red", images[0], generator=noise(1), num_inference_steps=4)[0]) > 1e-3


def test_an_interrupt_leaves_the_pictures_that_were_not_begun_as_they_are() -> None:
    pipe = sd_pipeline()
    images = [picture(1), picture(2, 40, 48)]
    call = {"callback_on_step_end": after(0, _interrupt=True), "generator": [noise(1), noise(2)]}
    with counted_samples(pipe) as counts:
        stopped = edit(pipe, "red", images, **call)
    assert counts == [3]
    rgb = torch.from_numpy(np.asarray(images[1]).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        as_it_is = pipe.vae.decode(pipe.vae.encode(rgb).latent_dist.mode()).sample / 2 + 0.5
    assert distance(stopped[1], as_it_is.clamp(0, 1)[0]) < CLOSE


def test_setting_a_scale_to_what_it_is_keeps_the_momentum() -> None:
    pipe = sd_pipeline()
    call = {"guidance_scale": 15.0, "adaptive_projection": True, "num_inference_steps": 5}

    def same(pipe: Any, _step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale = float("15.0")
        return tensors

    assert distance(edit(pipe, callback_on_step_end=same, **call), edit(pipe, **call)) < CLOSE


def test_a_scale_changed_within_a_list_counts() -> None:
    pipe = sd_pipeline()

    def neutral(pipe: Any, _step: int, _time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale[0] = 1.0
        return tensors

    with counted_samples(pipe) as counts:
        edit(pipe, guidance_scale=[7.5], image_guidance_scale=1.0, callback_on_step_end=neutral)
    assert counts == [2, 1, 1]


@pytest.mark.parametrize(
    ("make", "callback", "sentence"),
    [
        (sdxl_pipeline, SDXLCFGCutoffCallback(cutoff_step_ratio=0.4), "A callback can be given"),
        (sd_pipeline, SDCFGCutoffCallback(cutoff_step_ratio=0.4), "must keep its shape"),
        (sd_pipeline, lambda *_: {"latents": torch.zeros(1, 4, 8, 8)}, "must keep its shape"),
        (sd_pipeline, lambda *_: {"latents": None}, "must keep its shape"),
        (sd_pipeline, lambda *_: {"prompt_embed": torch.zeros(3, 77, 32)}, "gave back prompt_embed, and was given"),
    ],
)
def test_what_a_callback_cannot_change_is_told(make: Any, callback: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        edit(make(), callback_on_step_end=callback)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scheduler", ["DDIM", "EulerDiscrete", "HeunDiscrete", "DPMSolverMultistep"])
def test_who_watches_sees_the_steps_and_the_picture_come_and_changes_nothing(scheduler: str) -> None:
    pipe = sd_pipeline()
    exact = {"clip_sample": False, "set_alpha_to_one": True}
    pipe.scheduler = getattr(diffusers, f"{scheduler}Scheduler").from_config(pipe.scheduler.config, **exact)
    seen: list[tuple[int, int, Any]] = []
    call = {"num_inference_steps": 4, "output_type": "latent"}
    plain = edit(pipe, **call)
    watched = edit(pipe, watch=lambda done, total, x0: seen.append((done, total, x0())), **call)
    assert torch.equal(watched, plain)
    assert [each[:2] for each in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert distance(seen[-1][2], plain) < CLOSE  # the last step goes all the way to what it predicts
    assert distance(seen[0][2], plain) > 1e-2


def test_who_watches_can_end_the_call() -> None:
    pipe = sd_pipeline()
    steps: list[int] = []

    def stop(done: int, _total: int, _x0: Any) -> None:
        steps.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edit(pipe, num_inference_steps=4, watch=stop)
    assert steps == [1]
    assert torch.equal(edit(pipe, output_type="latent"), edit(sd_pipeline(), output_type="latent"))
